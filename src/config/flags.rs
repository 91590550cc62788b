//! Every option of the daemon, once: the table that the command line, the two
//! files, the help text and the refusals share.
//!
//! `args.rs` finds a [`Flag`] by its letter or long name, `file.rs` by its key
//! (the long name with `_` for `-`), and `settings.rs` does what [`Does`] says.
//! The letters and long names are those of `memcached -h` (1.6.45), all of
//! them; long names without a letter are tokencached's own.
//!
//! Invariants:
//! - *one row a flag*: no letter, no long name and no [`Setting`] twice.
//! - *nothing falls silently*: a flag is acted on, or listed as having no
//!   effect.

/// One option: its names, what it takes and what it does.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) short: Option<char>,
    pub(super) long: &'static str,
    pub(super) takes: Takes,
    pub(super) does: Does,
    pub(super) help: &'static str,
}

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Nothing: the flag says it all.
    Nothing,
    /// Nothing, and the times it is given count (`-vv`).
    Count,
    /// A value, called this in the help text.
    Value(&'static str),
}

/// What a flag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// Gives a setting its value.
    Set(Setting),
    /// Asks something of this run only, so it stands on the command line only.
    Ask(Ask),
    /// `-o`: a list of memcached's extended options.
    Extended,
    /// Nothing here: it tunes a part of memcached that tokencached does not have.
    NoEffect,
}

/// The settings that flags and keys give values to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Port,
    UdpPort,
    UnixSocket,
    UnixMask,
    EnableShutdown,
    Listen,
    Daemon,
    EnableCoredumps,
    User,
    MemoryLimit,
    DisableEvictions,
    ConnLimit,
    LockMemory,
    Verbose,
    Pidfile,
    Delimiter,
    Threads,
    MaxReqsPerEvent,
    DisableCas,
    ListenBacklog,
    Protocol,
    EnableSasl,
    AuthFile,
    BinaryStrict,
    MaxItemSize,
    DisableFlushAll,
    DisableDumping,
    MemoryCeiling,
    BufferMemory,
    Http,
    /// `--admin-socket`
    AdminSocket,
    NoServiceNames,
    ValidationCostMs,
    HttpHosts,
    AllowRemote,
    NoPacking,
    LastingIdle,
    EnableSsl,
}

/// What a command line can ask for beside settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Help,
    License,
    Version,
    PrintConfig,
    ConfigFile,
    MemcachedConf,
}

impl Flag {
    /// The name in the TOML file and in messages: `memory_limit`.
    pub(super) fn key(&self) -> String {
        self.long.replace('-', "_")
    }
}

/// The flag with this letter.
pub(super) fn by_short(letter: char) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.short == Some(letter))
}

/// The flag with this key; what a command line asks for has none.
pub(super) fn by_key(key: &str) -> Option<&'static Flag> {
    keyed().find(|flag| flag.key() == key)
}

/// The flags whose long name is `name`, or else begins with it, as getopt_long
/// allows names to be shortened.
pub(super) fn by_long(name: &str) -> Vec<&'static Flag> {
    match FLAGS.iter().find(|flag| flag.long == name) {
        Some(flag) => vec![flag],
        None => FLAGS
            .iter()
            .filter(|flag| flag.long.starts_with(name))
            .collect(),
    }
}

/// The flags that may stand in the TOML file.
pub(super) fn keyed() -> impl Iterator<Item = &'static Flag> {
    FLAGS
        .iter()
        .filter(|flag| !matches!(flag.does, Does::Ask(_)))
}

/// The text of `-h`.
///
/// Its first line is memcached's own, to the letter: test suites of clients
/// match it to find out what the server can do.
pub(super) fn help(memcached_version: &str, own_version: &str) -> String {
    let mut text = format!(
        "memcached {memcached_version}\n\
         tokencached {own_version}, which takes memcached's options and speaks its protocol\n\n\
         usage: tokencached [options]\n\n"
    );
    for flag in FLAGS {
        let help = flag.help.replace('\n', &format!("\n{:32}", ""));
        text.push_str(&format!("{:<31} {help}\n", names(flag)));
    }
    text.push_str(
        "\nA value from the command line comes before one from --config, that before one from\n\
         --memcached-conf. The keys of --config are the long names with _ for -; its table [access]\n\
         says who may connect (default, connect, read_only, deny). SIGHUP reads all of it again.\n",
    );
    text
}

fn names(flag: &Flag) -> String {
    let value = match flag.takes {
        Takes::Value(name) => format!("=<{name}>"),
        Takes::Nothing | Takes::Count => String::new(),
    };
    match flag.short {
        Some(letter) => format!("-{letter}, --{}{value}", flag.long),
        None => format!("    --{}{value}", flag.long),
    }
}

const fn flag(
    short: char,
    long: &'static str,
    takes: Takes,
    does: Does,
    help: &'static str,
) -> Flag {
    Flag {
        short: Some(short),
        long,
        takes,
        does,
        help,
    }
}

const fn own(long: &'static str, takes: Takes, does: Does, help: &'static str) -> Flag {
    Flag {
        short: None,
        long,
        takes,
        does,
        help,
    }
}

use Does::{Extended, NoEffect, Set};
use Takes::{Count, Nothing, Value};

/// All options, in the order of `memcached -h`, tokencached's own last.
#[rustfmt::skip]
pub(super) static FLAGS: &[Flag] = &[
    flag('p', "port", Value("num"), Set(Setting::Port),
        "TCP port to listen on (default: 11211; 0: no TCP, -1: any free port)"),
    flag('U', "udp-port", Value("num"), Set(Setting::UdpPort),
        "accepted; UDP is not served (default: 0, off)"),
    flag('s', "unix-socket", Value("file"), Set(Setting::UnixSocket),
        "UNIX socket to listen on (alone: no TCP; with -l or -p: both)"),
    flag('a', "unix-mask", Value("mask"), Set(Setting::UnixMask),
        "access mask for the UNIX socket, in octal (default: 0700)"),
    flag('A', "enable-shutdown", Nothing, Set(Setting::EnableShutdown),
        "enable the \"shutdown\" command"),
    flag('l', "listen", Value("addr"), Set(Setting::Listen),
        "addresses to listen on, separated by commas or repeated: host, host:port,\n\
         [ipv6]:port (default: 127.0.0.1 and ::1); with -Z, notls: before one turns TLS off\n\
         for it, mtls: wants a certificate of every client, btls: of none"),
    flag('d', "daemon", Nothing, Set(Setting::Daemon),
        "run as a daemon"),
    flag('r', "enable-coredumps", Nothing, Set(Setting::EnableCoredumps),
        "accepted; core dumps stay off, they would hold live tokens"),
    flag('u', "user", Value("user"), Set(Setting::User),
        "become this user once TCP is bound (only when started as root)"),
    flag('m', "memory-limit", Value("num"), Set(Setting::MemoryLimit),
        "item memory in MiB, or with k, m or g (default: 64, min: 8)"),
    flag('M', "disable-evictions", Nothing, Set(Setting::DisableEvictions),
        "return an error when memory is full instead of evicting"),
    flag('c', "conn-limit", Value("num"), Set(Setting::ConnLimit),
        "most connections at a time (default: 4096)"),
    flag('k', "lock-memory", Nothing, Set(Setting::LockMemory),
        "lock the item memory, so that it is never swapped"),
    flag('v', "verbose", Count, Set(Setting::Verbose),
        "log more: who comes in, and each failure of theirs; -d keeps the log then"),
    flag('h', "help", Nothing, Does::Ask(Ask::Help),
        "print this help and exit"),
    flag('i', "license", Nothing, Does::Ask(Ask::License),
        "print the license and exit"),
    flag('V', "version", Nothing, Does::Ask(Ask::Version),
        "print the version and exit"),
    flag('P', "pidfile", Value("file"), Set(Setting::Pidfile),
        "save the process id in this file"),
    flag('f', "slab-growth-factor", Value("num"), NoEffect,
        "accepted without effect: there are no slabs"),
    flag('n', "slab-min-size", Value("bytes"), NoEffect,
        "accepted without effect: there are no slabs"),
    flag('L', "enable-largepages", Nothing, NoEffect,
        "accepted without effect"),
    flag('D', "prefix-delimiter", Value("char"), Set(Setting::Delimiter),
        "delimiter between key prefix and id for \"stats detail\" (default: \":\");\n\
         given, the collection is on from the start"),
    flag('t', "threads", Value("num"), Set(Setting::Threads),
        "worker threads (default: 4)"),
    flag('R', "max-reqs-per-event", Value("num"), Set(Setting::MaxReqsPerEvent),
        "most requests of one connection in a row while another is ready (default: 20)"),
    flag('C', "disable-cas", Nothing, Set(Setting::DisableCas),
        "items carry no CAS unique"),
    flag('b', "listen-backlog", Value("num"), Set(Setting::ListenBacklog),
        "backlog of connections not yet accepted (default: 1024)"),
    flag('B', "protocol", Value("name"), Set(Setting::Protocol),
        "protocol: ascii, binary, or auto, where a client's first byte says it (default:\n\
         auto; with -Y and without -S: ascii)"),
    flag('I', "max-item-size", Value("num"), Set(Setting::MaxItemSize),
        "largest item in bytes, or with k, m or g\n\
         (default: 1m, min: 1k, max: 1024m and half of -m)"),
    flag('S', "enable-sasl", Nothing, Set(Setting::EnableSasl),
        "ask for user and password in the binary protocol too, by SASL PLAIN; needs -Y"),
    flag('Y', "auth-file", Value("file"), Set(Setting::AuthFile),
        "ask for user and password: a file of user:password lines, not readable by others,\n\
         read again on SIGHUP"),
    flag('Z', "enable-ssl", Nothing, Set(Setting::EnableSsl),
        "serve TLS on TCP, with -o ssl_chain_cert=FILE,ssl_key=FILE; SIGHUP and the command\n\
         refresh_certs read the files again, for new connections"),
    flag('F', "disable-flush-all", Nothing, Set(Setting::DisableFlushAll),
        "disable the flush_all command"),
    flag('X', "disable-dumping", Nothing, Set(Setting::DisableDumping),
        "disable stats cachedump, stats detail and metadump"),
    flag('W', "disable-watch", Nothing, NoEffect,
        "accepted without effect: there is no watch command"),
    flag('e', "memory-file", Value("file"), NoEffect,
        "accepted without effect: items are never written to a file"),
    flag('N', "napi-ids", Value("num"), NoEffect,
        "accepted without effect"),
    flag('o', "extended", Value("list"), Extended,
        "memcached's extended options, separated by commas. These have an effect:\n\
         - idle_timeout: seconds after which a silent connection is closed (default: 0,\n\
           never: it costs keystonemiddleware its cache)\n\
         - ssl_chain_cert: the server's certificate and those that vouch for it, PEM\n\
         - ssl_key: its key, PEM; may be the same file\n\
         - ssl_ca_cert: certificates that vouch for clients, PEM\n\
         - ssl_verify_mode: 0: clients show no certificate (default), 1: if they like,\n\
           2 or 3: they have to\n\
         - ssl_min_version: 2: TLS 1.2 (default), 3: TLS 1.3\n\
         - ssl_session_cache: sessions are kept, to be taken up again"),
    own("memory-ceiling", Value("num"), Set(Setting::MemoryCeiling),
        "up to where cache_memlimit may raise -m, in MiB, or with k, m or g\n\
         (default: four times -m, at least 1g)"),
    own("buffer-memory", Value("num"), Set(Setting::BufferMemory),
        "memory for the buffers of all connections together, in MiB, or with k, m or g\n\
         (default: 16, min: 1)"),
    own("http", Value("addr"), Set(Setting::Http),
        "address of the status page (/), /api/status, /metrics and /healthz, or \"off\"\n\
         (default: 127.0.0.1:9150)"),
    own("admin-socket", Value("path"), Set(Setting::AdminSocket),
        "unix socket for root and the server's own user: what --http shows, and watch of\n\
         tokencached-tool; or \"off\" (default: admin.sock in RUNTIME_DIRECTORY, if set)"),
    own("http-hosts", Value("names"), Set(Setting::HttpHosts),
        "names under which --http may be asked, beside localhost, its address and a name in\n\
         --http itself, separated by commas; requests to others are refused (default: none)"),
    own("allow-remote", Nothing, Set(Setting::AllowRemote),
        "allow -l and --http to name a wildcard address such as 0.0.0.0"),
    own("no-service-names", Nothing, Set(Setting::NoServiceNames),
        "count all clients as one service in metrics: neither the kernel nor the user\n\
         database is asked who they are"),
    own("validation-cost-ms", Value("num"), Set(Setting::ValidationCostMs),
        "what a validation costs Keystone in milliseconds of CPU, for the metric of\n\
         what it is spared (default: 100)"),
    own("binary-strict", Nothing, Set(Setting::BinaryStrict),
        "tell failures in the binary protocol for keystonemiddleware's keys too"),
    own("no-packing", Nothing, Set(Setting::NoPacking),
        "store values as they come instead of in fewer bytes"),
    own("lasting-idle", Value("num"), Set(Setting::LastingIdle),
        "when room is needed, items without an expiry leave once unused for so many\n\
         seconds (default: 300)"),
    own("config", Value("file"), Does::Ask(Ask::ConfigFile),
        "read a TOML file of settings"),
    own("memcached-conf", Value("file"), Does::Ask(Ask::MemcachedConf),
        "read a file in the form of Debian's /etc/memcached.conf"),
    own("print-config", Nothing, Does::Ask(Ask::PrintConfig),
        "print each setting with its value and source, and exit"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once() {
        for (index, flag) in FLAGS.iter().enumerate() {
            for other in &FLAGS[index + 1..] {
                assert!(
                    flag.short.is_none() || flag.short != other.short,
                    "{flag:?}"
                );
                assert_ne!(flag.long, other.long);
                let both_set = matches!((flag.does, other.does), (Set(a), Set(b)) if a == b);
                assert!(!both_set, "{flag:?}");
            }
        }
    }

    #[test]
    fn every_letter_of_memcached_is_known() {
        // The option string that memcached 1.6.45 gives to getopt.
        let memcached = "a:AZp:s:U:m:Mc:khiVrvdl:u:P:f:n:t:D:LR:Cb:B:I:SFXWY:e:o:N:";
        let mut letters = memcached.chars().peekable();
        while let Some(letter) = letters.next() {
            let takes_value = letters.next_if_eq(&':').is_some();
            let flag = by_short(letter).unwrap();
            assert_eq!(matches!(flag.takes, Value(_)), takes_value, "-{letter}");
        }
    }

    #[test]
    fn help_names_each_flag_and_begins_as_memcached_does() {
        let help = help("1.6.45", "0.1.0");
        assert_eq!(help.lines().next(), Some("memcached 1.6.45"));
        for flag in FLAGS {
            assert!(help.contains(&format!("--{}", flag.long)), "{}", flag.long);
        }
        assert!(help.lines().all(|line| line.len() <= 120), "{help}");
    }
}
