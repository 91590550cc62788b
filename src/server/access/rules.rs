//! The rules of `[access]`, in which names are numbers already, and what they say of a person.
//!
//! Invariant: [`Rules::verdict`] is a function of a person: `deny` goes before `read_only`, that before `connect`,
//! that before the default.

use std::fmt;
use std::ops::RangeInclusive;

/// Users of services beyond the system's own range: those that Debian gives its packages (`60000` to `64999`
/// in base-passwd's README; nova has 64060, cinder 64061, glance 64062), and systemd's of `DynamicUser=`
/// (UIDS-GIDS.md). Below them are users of systemd-homed, who are people.
const SERVICE_UIDS: RangeInclusive<u32> = 61_184..=65_519;

/// Whom a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The user with this uid.
    User(u32),
    /// The members of the group with this gid.
    Group(u32),
    /// Root and the users of services (`@system`): up to the system's largest uid, and those that packages
    /// and systemd give out from 61184 to 65519.
    System,
    /// The user that the server runs as (`@server`).
    Server,
}

/// The rules of `[access]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Who may not connect.
    pub deny: Vec<Subject>,
    /// Who may connect, and only read.
    pub read_only: Vec<Subject>,
    /// Who may connect, read and write.
    pub connect: Vec<Subject>,
    /// Whether all others may connect, read and write.
    pub others: bool,
    /// The largest uid of the system's own range (`SYS_UID_MAX`).
    pub system_uid_max: u32,
}

/// What is decided of a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// May read and write.
    Full,
    /// May read.
    ReadOnly,
    /// May not connect, as a rule names this person.
    Denied,
    /// May not connect, as no rule names this person.
    Unlisted,
}

/// As much of a user as the rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Person<'p> {
    /// Who it is.
    pub uid: u32,
    /// Every group, the first one among them.
    pub gids: &'p [u32],
    /// Who the server is.
    pub server_uid: u32,
}

impl fmt::Display for Subject {
    /// As in the configuration, a user or a group by its number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::User(uid) => write!(formatter, "{uid}"),
            Subject::Group(gid) => write!(formatter, "%{gid}"),
            Subject::System => formatter.write_str("@system"),
            Subject::Server => formatter.write_str("@server"),
        }
    }
}

impl fmt::Display for Rules {
    /// `default deny, connect 0 @system @server, read_only 1001`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = if self.others { "allow" } else { "deny" };
        write!(formatter, "default {others}")?;
        let lists = [
            ("connect", &self.connect),
            ("read_only", &self.read_only),
            ("deny", &self.deny),
        ];
        for (name, subjects) in lists.iter().filter(|(_, subjects)| !subjects.is_empty()) {
            write!(formatter, ", {name}")?;
            for subject in subjects.iter() {
                write!(formatter, " {subject}")?;
            }
        }
        Ok(())
    }
}

impl Rules {
    /// Whether a rule names a group, so that groups have to be looked up.
    pub(super) fn name_groups(&self) -> bool {
        let mut all = self.deny.iter().chain(&self.read_only).chain(&self.connect);
        all.any(|subject| matches!(subject, Subject::Group(_)))
    }

    /// What these rules say of a person.
    pub fn verdict(&self, person: &Person<'_>) -> Verdict {
        let is_in = |subjects: &[Subject]| {
            subjects.iter().any(|subject| match *subject {
                Subject::User(uid) => person.uid == uid,
                Subject::Group(gid) => person.gids.contains(&gid),
                Subject::System => {
                    person.uid <= self.system_uid_max || SERVICE_UIDS.contains(&person.uid)
                }
                Subject::Server => person.uid == person.server_uid,
            })
        };
        if is_in(&self.deny) {
            Verdict::Denied
        } else if is_in(&self.read_only) {
            Verdict::ReadOnly
        } else if self.others || is_in(&self.connect) {
            Verdict::Full
        } else {
            Verdict::Unlisted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(rules: &Rules, uid: u32, gids: &[u32]) -> Verdict {
        rules.verdict(&Person {
            uid,
            gids,
            server_uid: 117,
        })
    }

    #[test]
    fn a_list_names_users_groups_and_classes() {
        let rules = Rules {
            connect: vec![Subject::User(1001), Subject::Group(50), Subject::System],
            system_uid_max: 999,
            ..Rules::default()
        };
        for (uid, gids, expected) in [
            (0, &[0][..], Verdict::Full),
            (999, &[], Verdict::Full),
            (1000, &[1000], Verdict::Unlisted),
            (60_513, &[60_513], Verdict::Unlisted),
            (64_060, &[64_060], Verdict::Full),
            (65_520, &[65_520], Verdict::Unlisted),
            (1001, &[1000], Verdict::Full),
            (1002, &[1002, 50], Verdict::Full),
            (65534, &[65534], Verdict::Unlisted),
            (u32::MAX, &[], Verdict::Unlisted),
        ] {
            assert_eq!(verdict(&rules, uid, gids), expected, "{uid} {gids:?}");
        }
    }

    #[test]
    fn the_server_is_its_own_user_only() {
        let rules = Rules {
            connect: vec![Subject::Server],
            ..Rules::default()
        };
        assert_eq!(verdict(&rules, 117, &[]), Verdict::Full);
        assert_eq!(verdict(&rules, 118, &[117]), Verdict::Unlisted);
    }

    #[test]
    fn deny_goes_before_read_only_and_that_before_connect_and_the_default() {
        let everybody = vec![Subject::System];
        let mut rules = Rules {
            deny: everybody.clone(),
            read_only: everybody.clone(),
            connect: everybody,
            others: true,
            system_uid_max: 999,
        };
        assert_eq!(verdict(&rules, 5, &[]), Verdict::Denied);
        assert_eq!(verdict(&rules, 1000, &[]), Verdict::Full);
        rules.deny.clear();
        assert_eq!(verdict(&rules, 5, &[]), Verdict::ReadOnly);
        rules.read_only.clear();
        assert_eq!(verdict(&rules, 5, &[]), Verdict::Full);
        rules.others = false;
        assert_eq!(verdict(&rules, 1000, &[]), Verdict::Unlisted);
    }
}
