//! Man pages and shell completions of both programs, made from the definitions of their command lines, and the
//! reference of the metrics, from theirs.
//!
//! `tokencached-tool documents DIR` writes them, for the packages and for docs/. The daemon's options are read by `args.rs` as
//! memcached reads them and not by clap; here its table becomes a clap command, which says the same and
//! parses nothing.

use clap::{Arg, ArgAction, Command, CommandFactory, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;

use super::flags::{FLAGS, Flag, Takes};
use super::tool_flags::ToolFlags;
use super::{MEMCACHED_VERSION, OWN_VERSION};
use crate::stats::reference;

/// A file of documentation.
#[derive(Debug)]
pub struct Document {
    /// Its name, as where it is installed.
    pub name: String,
    /// What it says.
    pub content: Vec<u8>,
}

/// What the daemon's man page says beyond its options.
const SECTIONS: &[(&str, &str)] = &[
    (
        "ACCESS RULES",
        "The table [access] of --config says whose processes may connect, by the user at the other end of a \
         unix socket or of a connection over loopback; without it everybody may. Its keys: default (\"allow\" or \
         \"deny\", for whoever is named by nothing else; without it \"deny\"), and the lists connect (may read and \
         write), read_only (may only read) and deny (may not connect). deny goes before read_only, that before \
         connect.\n.PP\nA name is a user's, %name a group's, both may be numbers; one that nobody has ends the start. \
         @system is root and the users of services (up to SYS_UID_MAX of /etc/login.defs, and 61184 to 65519), \
         @server the user that the server runs as. With any rule, a peer that cannot be named is refused.\n.PP\n\
         access.default = \"deny\"\n.br\naccess.connect = [\"root\", \"@system\", \"@server\", \"%api\"]\n.PP\n\
         Who is refused is closed without an answer, and named in the log.",
    ),
    (
        "SIGNALS",
        "SIGTERM, SIGINT and SIGUSR1 end the server once requests that were begun are finished. SIGHUP reads \
         the configuration again, and with it certificates, users and passwords: memory_limit, verbose and \
         [access] are put in force, and what else has changed is named in the log, as it takes a restart. \
         Connections that new rules refuse are closed. SIGUSR2 executes the program anew, by the path that it \
         had at the start, in the same process: items and addresses stay. It is tried first, and if it does not run or \
         refuses the configuration, the log says so and nothing changes.",
    ),
    (
        "RESTART",
        "Under a service manager that stores descriptors (systemd's FileDescriptorStoreMax=) the next process goes on \
         with all items and addresses, after a crash too; meanwhile clients wait. With another configuration it keeps what fits, with \
         one that cannot be used it goes on with the last good one, and the log says so. What takes more memory than \
         memory_ceiling was at the first start, or is to begin empty, takes a stop and a start.",
    ),
    (
        "EXIT STATUS",
        "0 after a signal; 78 if the configuration cannot be used and there is no last good one, 71 if something is in \
         the way that may be over by itself, such as an address in use; both with one line that says what is wrong, \
         where, and what would do.",
    ),
    (
        "ENVIRONMENT",
        "MEMCACHED_PORT_FILENAME names a file for the ports of TCP. NOTIFY_SOCKET, FDSTORE, WATCHDOG_USEC and \
         LISTEN_FDS are the service manager's: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).",
    ),
    (
        "FILES",
        "/etc/tokencached/tokencached.toml is read by tokencached.service, /etc/memcached.conf and \
         /etc/tokencached/takeover.toml by memcached.service where tokencached-takeover is installed. \
         /usr/share/doc/tokencached has what the metrics are for (docs/metrics.md), and alert rules and a dashboard.",
    ),
    (
        "SEE ALSO",
        "tokencached-tool(1), memcached(1), systemd.service(5)",
    ),
];

/// All of them.
pub fn all() -> Vec<Document> {
    let tool = ToolFlags::command();
    let mut all = vec![daemon_page(), metrics()];
    all.extend(tool_pages(&tool));
    for command in [daemon(), tool] {
        all.extend([Shell::Bash, Shell::Zsh, Shell::Fish].map(|shell| completion(&command, shell)));
    }
    all
}

/// The daemon's command line.
fn daemon() -> Command {
    Command::new("tokencached")
        .version(OWN_VERSION)
        .about("a memcached-compatible cache beside every OpenStack API service")
        .long_about(format!(
            "Serves what memcached {MEMCACHED_VERSION} serves, with its options, and keeps keystonemiddleware's tokens in a \
             thirtieth of their bytes. A value from the command line comes before one from --config, that \
             before one from --memcached-conf. The keys of --config are the long names with _ for -, and those of \
             ACCESS RULES."
        ))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args(FLAGS.iter().map(argument))
}

fn argument(flag: &'static Flag) -> Arg {
    let help = flag.help.replace(":\n- ", ": ");
    let help = help.replace("\n- ", "; ").replace('\n', " ");
    let argument = Arg::new(flag.long).long(flag.long).help(help);
    let argument = match flag.short {
        Some(letter) => argument.short(letter),
        None => argument,
    };
    match flag.takes {
        Takes::Nothing => argument.action(ArgAction::SetTrue),
        Takes::Count => argument.action(ArgAction::Count),
        Takes::Value(name) => argument.value_name(name).value_hint(match name {
            "file" => ValueHint::FilePath,
            "user" => ValueHint::Username,
            _ => ValueHint::Other,
        }),
    }
}

fn daemon_page() -> Document {
    let man = Man::new(daemon()).section("8").manual("tokencached");
    let mut content = rendered(&man);
    for (heading, text) in SECTIONS {
        let text = text.replace('-', "\\-");
        content.extend_from_slice(format!(".SH \"{heading}\"\n{text}\n").as_bytes());
    }
    Document {
        name: "tokencached.8".into(),
        content,
    }
}

fn metrics() -> Document {
    Document {
        name: "metrics.md".into(),
        content: reference::markdown().into_bytes(),
    }
}

/// A page for the tool, and one for each of its subcommands.
fn tool_pages(tool: &Command) -> Vec<Document> {
    // The name of a subcommand's page, and the synopsis on it, are its own once it is built.
    let mut tool = tool.clone().disable_help_subcommand(true);
    tool.build();
    let shown = tool
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    let commands: Vec<Command> = std::iter::once(tool.clone())
        .chain(shown.cloned())
        .collect();
    let page = |command: Command| {
        let name = command
            .get_display_name()
            .unwrap_or(command.get_name())
            .to_owned();
        let man = Man::new(command)
            .title(&name)
            .section("1")
            .manual("tokencached");
        Document {
            name: format!("{name}.1"),
            content: rendered(&man),
        }
    };
    commands.into_iter().map(page).collect()
}

fn rendered(man: &Man) -> Vec<u8> {
    let mut page = Vec::new();
    man.render(&mut page)
        .expect("writing into memory does not fail");
    page
}

fn completion(command: &Command, shell: Shell) -> Document {
    let name = command.get_name().to_owned();
    let mut content = Vec::new();
    clap_complete::generate(shell, &mut command.clone(), &name, &mut content);
    Document {
        name: match shell {
            Shell::Zsh => format!("_{name}"),
            Shell::Fish => format!("{name}.fish"),
            _ => format!("{name}.bash"),
        },
        content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> String {
        let all = all();
        let document = all.iter().find(|document| document.name == name);
        let content = document.expect(name).content.clone();
        String::from_utf8(content).unwrap()
    }

    #[test]
    fn the_commands_are_sound() {
        daemon().debug_assert();
    }

    #[test]
    fn page_and_completions_have_every_option_of_the_daemon() {
        let page = text("tokencached.8").replace("\\-", "-");
        let (bash, zsh) = (text("tokencached.bash"), text("_tokencached"));
        let fish = text("tokencached.fish");
        for flag in FLAGS {
            let long = format!("--{}", flag.long);
            for text in [&page, &bash, &zsh] {
                assert!(text.contains(&long), "{long}");
            }
            assert!(fish.contains(&format!("-l {}", flag.long)), "{long}");
        }
    }

    #[test]
    fn the_tool_has_a_page_for_each_subcommand_that_is_shown() {
        let names: Vec<_> = all().into_iter().map(|document| document.name).collect();
        for command in ToolFlags::command().get_subcommands() {
            let page = format!("tokencached-tool-{}.1", command.get_name());
            assert_eq!(names.contains(&page), !command.is_hide_set(), "{page}");
            if !command.is_hide_set() {
                assert!(text(&page).contains("tokencached\\-tool"), "{page}");
            }
        }
    }
}
