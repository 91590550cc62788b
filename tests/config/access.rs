//! `[access]`: from its table to rules, and every way in which it cannot be used.

use tokencached::config::Config;

use super::{refusal, run};

#[test]
fn access_rules_come_from_their_table_with_names_as_numbers() {
    use tokencached::server::access::{Rules, Subject};
    let toml = "[access]\ndefault = \"deny\"\n\
                connect = [\"root\", \"@system\", \"@server\", \"%glance\", 1001, \"%50\"]\n\
                read_only = [\"nova\"]\n";
    let config = run(true, "-u root --config toml", "", toml);
    let expected = Rules {
        deny: vec![],
        read_only: vec![Subject::User(64060)],
        connect: vec![
            Subject::User(0),
            Subject::System,
            Subject::Server,
            Subject::Group(64062),
            Subject::User(1001),
            Subject::Group(50),
        ],
        others: false,
        system_uid_max: 999,
    };
    assert_eq!(config.server.access, Some(expected));
    let shown = config.settings.last().unwrap().to_string();
    assert_eq!(
        shown,
        "access = \"default=deny connect=root,@system,@server,%glance,1001,%50 read_only=nova\" (toml: access)"
    );
    for open in [
        "",
        "[access]\ndefault = \"allow\"\n",
        "[access]\ndefault = \"allow\"\nconnect = [\"nova\"]\n",
    ] {
        assert_eq!(
            run(true, "-u root --config toml", "", open).server.access,
            None
        );
    }
    let nobody = run(true, "-u root --config toml", "", "[access]\n");
    assert_eq!(nobody.server.access.unwrap().connect, []);
}

#[test]
fn access_rules_on_an_address_beyond_loopback_are_warned_of() {
    let toml = "[access]\nconnect = [\"@system\"]\n";
    let config = run(true, "-u root -l unit -l 127.0.0.1 --config toml", "", toml);
    let of_the_address = |config: &Config| {
        let warnings = config.warnings.iter();
        let of_it = warnings.filter(|line| line.contains("not a loopback address"));
        of_it.cloned().collect::<Vec<_>>()
    };
    let warned = of_the_address(&config);
    assert_eq!(warned.len(), 1, "{:?}", config.warnings);
    assert!(warned[0].contains("the access rules refuse whoever comes from beyond loopback"));
    assert!(of_the_address(&run(true, "-u root --config toml", "", toml)).is_empty());
    let open = of_the_address(&run(true, "-u root -l unit", "", ""));
    assert!(open[0].contains("reads and writes every cached token"));
    // Where there is nothing else, nobody could connect.
    let line = refusal("-u root -l unit --config toml", "", toml);
    assert!(
        line.starts_with("access (toml: access): clients of addresses beyond loopback"),
        "{line}"
    );
    run(true, "-u root -l unit -s /socket --config toml", "", toml);
}

#[test]
fn access_rules_that_are_probably_not_meant_are_warned_of() {
    let warned = |toml: &str, words: &str| {
        let config = run(true, "-u root --config toml", "", toml);
        config.warnings.iter().any(|line| line.contains(words))
    };
    assert!(warned("access.connect = []\n", "nobody may connect"));
    assert!(!warned("access.read_only = [0]\n", "nobody may connect"));
    let open = "access.default = \"allow\"\n";
    assert!(!warned(open, "access"));
    let list = format!("{open}access.connect = [\"root\"]\n");
    assert!(warned(&list, "connect has no effect"));
}

#[test]
fn access_rules_that_cannot_be_used_are_one_line() {
    for (toml, expected) in [
        (
            "connect = [\"novaa\"]",
            "access.connect = \"novaa\" (toml: access.connect): there is no such user; create it, name another, or \
             give its number (%NAME is a group)",
        ),
        (
            "deny = [\"%nova\"]",
            "access.deny = \"%nova\" (toml: access.deny): there is no such group; create it, name another, or give \
             its number as %NUMBER",
        ),
        (
            "connect = [\"@sytem\"]",
            "access.connect = \"@sytem\" (toml: access.connect): unknown class; give @system or @server",
        ),
        (
            "conect = []",
            "access.conect (toml: access.conect): unknown key; did you mean connect?",
        ),
        (
            "memory_limit = 64",
            "access.memory_limit (toml: access.memory_limit): unknown key; write memory_limit above [access]",
        ),
        (
            "default = true",
            "access.default (toml: access.default): not a default; give \"allow\" or \"deny\"",
        ),
        (
            "connect = \"root\"",
            "access.connect (toml: access.connect): not a list of names; give a list such as [\"root\", \
             \"@system\", \"nova\", \"%glance\"]",
        ),
        (
            "read_only = [4294967295]",
            "access.read_only = \"4294967295\" (toml: access.read_only): there is no such user; create it, name \
             another, or give its number (%NAME is a group)",
        ),
    ] {
        let toml = format!("[access]\n{toml}\n");
        assert_eq!(refusal("-u root --config toml", "", &toml), expected);
    }
    for (toml, remedy) in [
        ("[Access]\n", "did you mean [access]?"),
        (
            "connect = [\"root\"]\n",
            "write access.connect, or put it below [access]",
        ),
        ("[access]\n[access]\n", "leave one of the two out"),
    ] {
        let line = refusal("-u root --config toml", "", toml);
        assert!(line.ends_with(remedy), "{line}");
    }
    assert_eq!(
        refusal("-u root --config toml", "", "access = 1"),
        "access (toml: access): not a table; write [access], and below it default, connect, read_only and deny"
    );
}
