//! `-o`: the names of memcached's extended options.
//!
//! `settings.rs` hands the whole list over, whichever source it came from. All
//! of them tune parts that tokencached does not have (slabs, LRU crawler, hash
//! table, external storage), so they are accepted and listed as having no
//! effect; their values are not looked at. Two families are refused: TLS,
//! because a port meant to be encrypted would be open, and the proxy, because
//! it would be no proxy. The names are those of memcached 1.6.45 (`memcached.c`
//! and `storage.c`, the subopts tables), those behind its build options and
//! those it keeps for old configurations among them.

use super::settings::Origin;
use super::units::Problem;
use crate::nearest::nearest;

/// Takes a list as `-o` has it: `name`, `name=value`, separated by commas.
pub(super) fn take(
    text: &str,
    origin: &Origin,
    without_effect: &mut Vec<String>,
) -> Result<(), Problem> {
    let options = text
        .split(',')
        .map(str::trim)
        .filter(|option| !option.is_empty());
    for option in options {
        let name = option
            .split_once('=')
            .map_or(option, |(name, _)| name.trim_end());
        check(name)?;
        without_effect.push(format!("-o {name} ({origin})"));
    }
    Ok(())
}

fn check(name: &str) -> Result<(), Problem> {
    if ["ssl_", "proxy_"]
        .iter()
        .any(|family| name.starts_with(family))
    {
        let what = format!("\"{}\" is not supported yet", name.escape_debug());
        return Err(Problem::new(what, "leave it out"));
    }
    if NAMES.contains(&name)
        || name
            .strip_prefix("no_")
            .is_some_and(|rest| NAMES.contains(&rest))
    {
        return Ok(());
    }
    let remedy = match nearest(name, NAMES) {
        Some(known) => format!("did you mean {known}?"),
        None => "see memcached -h for those it knows".to_owned(),
    };
    Err(Problem::new(
        format!("unknown option \"{}\"", name.escape_debug()),
        remedy,
    ))
}

/// The names; a `no_` before any of them is understood.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "maxconns_fast", "hashpower", "hashexpand", "hash_algorithm", "tail_repair_time",
    "slab_reassign", "slab_automove", "slab_automove_ratio", "slab_automove_window",
    "slab_automove_freeratio", "slab_sizes", "slab_chunk_max", "chunked_items",
    "lru_crawler", "lru_crawler_sleep", "lru_crawler_tocrawl", "lru_maintainer",
    "hot_lru_pct", "warm_lru_pct", "hot_max_factor", "warm_max_factor", "temporary_ttl",
    "idle_timeout", "watcher_logbuf_size", "worker_logbuf_size", "track_sizes",
    "inline_ascii_resp", "modern", "drop_privileges", "relaxed_privileges",
    "resp_obj_mem_limit", "read_buf_mem_limit", "sock_cookie_id",
    "ext_path", "ext_page_size", "ext_wbuf_size", "ext_threads", "ext_io_depth",
    "ext_item_size", "ext_item_age", "ext_low_ttl", "ext_recache_rate", "ext_compact_under",
    "ext_drop_under", "ext_max_sleep", "ext_max_frag", "ext_drop_unread",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Result<Vec<String>, Problem> {
        let mut listed = Vec::new();
        take(text, &Origin::command_line("-o"), &mut listed).map(|()| listed)
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
                "modern,ssl_key=/k",
                "\"ssl_key\" is not supported yet",
                "leave it out",
            ),
            (
                "proxy_config=x",
                "\"proxy_config\" is not supported yet",
                "leave it out",
            ),
        ] {
            assert_eq!(taken(text), Err(Problem::new(what, remedy)), "{text}");
        }
    }
}
