//! `-o`: memcached's extended options.
//!
//! `settings.rs` hands the whole list over, whichever source it came from. The `ssl_` names and
//! `idle_timeout` are settings; all others tune parts that tokencached does not have (slabs, LRU crawler, hash
//! table, external storage), so they are accepted and listed as having no
//! effect; their values are not looked at. The proxy's are refused, because
//! it would be no proxy. The names are those of memcached 1.6.45 (`memcached.c`
//! and `storage.c`, the subopts tables), those behind its build options and
//! those it keeps for old configurations among them.

use super::settings::{Origin, Settings, Sourced, path, said};
use super::units::{self, Problem};
use crate::nearest::nearest;
use crate::server::tls::{Oldest, Verify};

/// Takes a list as `-o` has it: `name`, `name=value`, separated by commas.
pub(super) fn take(text: &str, origin: &Origin, settings: &mut Settings) -> Result<(), Problem> {
    let options = text
        .split(',')
        .map(str::trim)
        .filter(|option| !option.is_empty());
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let (name, value) = (name.trim_end(), value.trim());
        settings.extended.push(Sourced {
            value: option.to_owned(),
            origin: origin.clone(),
        });
        if name == "idle_timeout" {
            settings.idle_timeout = said(seconds(value)?, origin);
            continue;
        }
        if take_ssl(name, value, origin, settings)? {
            continue;
        }
        check(name)?;
        settings
            .without_effect
            .push(format!("-o {name} ({origin})"));
    }
    Ok(())
}

/// memcached keeps it in an `int`.
fn seconds(value: &str) -> Result<u32, Problem> {
    let whole = units::whole(value, 0, i32::MAX as u64).map_err(|_| {
        Problem::new(
            "idle_timeout is no number of seconds, or too large",
            "give idle_timeout=0 (never) to 2147483647",
        )
    })?;
    // It fits, as it is bounded.
    Ok(whole as u32)
}

/// Takes an option of TLS in; says whether it has an effect.
fn take_ssl(
    name: &str,
    value: &str,
    origin: &Origin,
    settings: &mut Settings,
) -> Result<bool, Problem> {
    let ssl = &mut settings.ssl;
    match name {
        "ssl_chain_cert" => ssl.chain_cert = said(path(value)?, origin),
        "ssl_key" => ssl.key = said(path(value)?, origin),
        "ssl_ca_cert" => ssl.ca_cert = said(path(value)?, origin),
        "ssl_verify_mode" => ssl.verify = said(verify(value)?, origin),
        "ssl_session_cache" => ssl.session_cache = said(true, origin),
        "no_ssl_session_cache" => ssl.session_cache = said(false, origin),
        "ssl_min_version" => ssl.oldest = said(oldest(value)?, origin),
        _ => return Ok(false),
    }
    Ok(true)
}

/// memcached's numbers are OpenSSL's: 3 asks once in a connection that is negotiated anew, of which
/// TLS 1.3 knows nothing.
fn verify(value: &str) -> Result<Verify, Problem> {
    match value {
        "0" => Ok(Verify::Nobody),
        "1" => Ok(Verify::Shown),
        "2" | "3" => Ok(Verify::Everybody),
        _ => Err(Problem::new(
            "not a value of ssl_verify_mode",
            "give 0 (none), 1 (request) or 2 (require)",
        )),
    }
}

/// 0 and 1 are TLS 1.0 and 1.1, which nobody should speak any more: 1.2 is the oldest here.
fn oldest(value: &str) -> Result<Oldest, Problem> {
    match value {
        "2" => Ok(Oldest::Tls12),
        "3" => Ok(Oldest::Tls13),
        _ => Err(Problem::new(
            "not a version that is served",
            "give ssl_min_version=2 (TLS 1.2) or 3 (TLS 1.3)",
        )),
    }
}

fn check(name: &str) -> Result<(), Problem> {
    if name.starts_with("proxy_") {
        let what = format!(
            "\"{}\" is the proxy's, and there is none",
            name.escape_debug()
        );
        return Err(Problem::new(what, "leave it out"));
    }
    if NAMES.contains(&name)
        || name
            .strip_prefix("no_")
            .is_some_and(|rest| NAMES.contains(&rest))
    {
        return Ok(());
    }
    let known: Vec<&str> = NAMES.iter().chain(SETTINGS).copied().collect();
    let remedy = match nearest(name, &known) {
        Some(known) => format!("did you mean {known}?"),
        None => "-h lists those that have an effect, memcached -h all".to_owned(),
    };
    Err(Problem::new(
        format!("unknown option \"{}\"", name.escape_debug()),
        remedy,
    ))
}

/// The names that have an effect.
const SETTINGS: &[&str] = &[
    "idle_timeout",
    "ssl_chain_cert",
    "ssl_key",
    "ssl_ca_cert",
    "ssl_verify_mode",
    "ssl_session_cache",
    "ssl_min_version",
];

/// All others; a `no_` before any of them is understood.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "maxconns_fast", "hashpower", "hashexpand", "hash_algorithm", "tail_repair_time",
    "slab_reassign", "slab_automove", "slab_automove_ratio", "slab_automove_window",
    "slab_automove_freeratio", "slab_sizes", "slab_chunk_max", "chunked_items",
    "lru_crawler", "lru_crawler_sleep", "lru_crawler_tocrawl", "lru_maintainer",
    "hot_lru_pct", "warm_lru_pct", "hot_max_factor", "warm_max_factor", "temporary_ttl",
    "watcher_logbuf_size", "worker_logbuf_size", "track_sizes",
    "inline_ascii_resp", "modern", "drop_privileges", "relaxed_privileges",
    "resp_obj_mem_limit", "read_buf_mem_limit", "sock_cookie_id",
    "ext_path", "ext_page_size", "ext_wbuf_size", "ext_threads", "ext_io_depth",
    "ext_item_size", "ext_item_age", "ext_low_ttl", "ext_recache_rate", "ext_compact_under",
    "ext_drop_under", "ext_max_sleep", "ext_max_frag", "ext_drop_unread",
    "ssl_keyformat", "ssl_ciphers", "ssl_kernel_tls", "ssl_wbuf_size",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Result<Vec<String>, Problem> {
        let mut settings = Settings::default();
        take(text, &Origin::command_line("-o"), &mut settings).map(|()| settings.without_effect)
    }

    #[test]
    fn known_names_are_listed() {
        let listed = taken("modern, hashpower=20,no_lru_crawler,,slab_sizes=8-16").unwrap();
        assert_eq!(listed.len(), 4);
        assert_eq!(listed[1], "-o hashpower (command line -o)");
        assert_eq!(taken(""), Ok(vec![]));
    }

    #[test]
    fn unknown_names_and_security_are_refused() {
        for (text, what, remedy) in [
            (
                "lru_crawlr",
                "unknown option \"lru_crawlr\"",
                "did you mean lru_crawler?",
            ),
            (
                "modern,ssl_verify_mode=9",
                "not a value of ssl_verify_mode",
                "give 0 (none), 1 (request) or 2 (require)",
            ),
            (
                "proxy_config=x",
                "\"proxy_config\" is the proxy's, and there is none",
                "leave it out",
            ),
        ] {
            assert_eq!(taken(text), Err(Problem::new(what, remedy)), "{text}");
        }
    }
}
