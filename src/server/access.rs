//! Who may connect, and who may only read: the `[access]` rules, decided when a connection is accepted.
//!
//! `config` fills [`Rules`], in which names are numbers already. `listener` asks [`Access::admit`] for each
//! connection before a byte of it is read; `reload` puts new rules in force ([`Access::replace`]) and asks
//! [`Access::reconsider`] for the connections that there are. Who is at the other end, `peer` finds.
//!
//! Invariants:
//! - without rules nothing is looked up, and everybody who can connect may;
//! - with rules, whoever cannot be named is refused;
//! - [`Rules::verdict`] is a function of a person: `deny` goes before `read_only`, that before `connect`,
//!   that before the default;
//! - the user database is asked once for a uid, not for a connection: for groups where a rule names
//!   one, for the name of who is refused. All of this runs in the main thread, where a database that
//!   is slow to answer holds up accepting and nothing else. What it said holds until the rules
//!   are read again, for at most `KNOWN_MAX` uids; if it fails, that is a refusal, and it is asked again;
//! - refusals are logged within a quota (`complaint`), with how many were not.

use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::ops::RangeInclusive;

use nix::unistd::{Uid, User, getgrouplist};
use parking_lot::Mutex;

use super::complaint::Quota;
use super::peer::{self, Ends, Peers, Unnamed};

/// Users of services beyond the system's own range: those that Debian gives its packages (`60000` to `64999`
/// in base-passwd's README; nova has 64060, cinder 64061, glance 64062), and systemd's of `DynamicUser=`
/// (UIDS-GIDS.md). Below them are users of systemd-homed, who are people.
const SERVICE_UIDS: RangeInclusive<u32> = 61_184..=65_519;

/// Uids whose verdict is remembered.
const KNOWN_MAX: usize = 1024;

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

impl Rules {
    /// Whether a rule names a group, so that groups have to be looked up.
    fn name_groups(&self) -> bool {
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

/// An accepted socket, for who is at its other end.
#[derive(Clone, Copy, Debug)]
pub enum Socket<'s> {
    /// TCP, with its two addresses.
    Tcp(&'s std::net::TcpStream, Ends),
    /// A unix socket.
    Unix(&'s std::os::unix::net::UnixStream),
}

/// What a connection is let in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// Whose it is, where that was asked for.
    pub uid: Option<u32>,
    /// It may only read.
    pub read_only: bool,
}

/// Why a connection is not let in.
#[derive(Debug)]
pub enum Refusal {
    /// The rules are against this user.
    User {
        /// Who it is.
        uid: u32,
        /// The name, if there is one.
        name: Option<String>,
        /// What the rules say.
        verdict: Verdict,
    },
    /// Nobody knows who it is.
    Unnamed(Unnamed),
    /// Nobody knows which groups this user is in.
    Groups(u32, io::Error),
}

impl Refusal {
    /// The line of the log about it, which begins with what was done: `refused uid 1001 (mallory) on
    /// tcp:127.0.0.1:11211: not in [access] connect`.
    pub fn line(&self, done: &str, listener: &str) -> String {
        match self {
            Refusal::User { uid, name, verdict } => {
                let name = name
                    .as_ref()
                    .map(|name| format!(" ({})", name.escape_debug()));
                let name = name.unwrap_or_default();
                let why = match verdict {
                    Verdict::Denied => "in [access] deny",
                    _ => "not in [access] connect",
                };
                format!("{done} uid {uid}{name} on {listener}: {why}")
            }
            Refusal::Unnamed(unnamed) => {
                format!("{done} a peer that cannot be named on {listener}: {unnamed}")
            }
            Refusal::Groups(uid, error) => {
                format!("{done} uid {uid} on {listener}: its groups cannot be looked up: {error}")
            }
        }
    }
}

/// The rules in force, and what was found out under them.
#[derive(Debug)]
pub struct Access(Mutex<State>);

#[derive(Debug)]
struct State {
    rules: Option<Rules>,
    server_uid: u32,
    /// Open from the first rules on.
    peers: Option<Peers>,
    known: HashMap<u32, Known>,
    lines: Quota,
}

/// A verdict, and the name of who is refused.
#[derive(Clone, Debug)]
struct Known {
    verdict: Verdict,
    name: Option<String>,
}

impl Access {
    /// Puts the first rules in force.
    ///
    /// # Errors
    /// If the kernel does not say who is at the other end of a TCP connection.
    pub fn new(rules: Option<Rules>) -> io::Result<Access> {
        let access = Access(Mutex::new(State {
            rules: None,
            server_uid: nix::unistd::geteuid().as_raw(),
            peers: None,
            known: HashMap::new(),
            lines: Quota::default(),
        }));
        access.replace(rules)?;
        Ok(access)
    }

    /// Puts other rules in force, for connections to come.
    ///
    /// # Errors
    /// Those of [`Access::new`]; the rules stay as they were then.
    pub fn replace(&self, rules: Option<Rules>) -> io::Result<()> {
        let mut state = self.0.lock();
        if rules.is_some() && state.peers.is_none() {
            state.peers = Some(Peers::open()?);
        }
        state.rules = rules;
        // Groups may be others too.
        state.known.clear();
        Ok(())
    }

    /// Whether there are rules.
    pub fn is_on(&self) -> bool {
        self.0.lock().rules.is_some()
    }

    /// Decides on a connection that was accepted. Costs nothing without rules; with them a look-up of
    /// microseconds, and the user database for a uid that was not seen before.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn admit(&self, socket: Socket<'_>) -> Result<Admission, Refusal> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let uid = match socket {
            // Known at once, and wanted if rules come later, when nobody can ask any more.
            Socket::Unix(stream) => peer::uid_on_unix(stream).map_err(Unnamed::Unanswered),
            Socket::Tcp(stream, ends) => match (&state.rules, &mut state.peers) {
                (Some(_), Some(peers)) => peers.uid_on_tcp(ends, stream),
                _ => Err(Unnamed::Remote),
            },
        };
        state.decide(uid)
    }

    /// Decides on a connection that was let in earlier, by who it is or else by its ends.
    ///
    /// # Errors
    /// Why it may not stay.
    pub fn reconsider(&self, uid: Option<u32>, ends: Option<Ends>) -> Result<Admission, Refusal> {
        let mut state = self.0.lock();
        let uid = match (uid, ends, &mut state.peers) {
            (Some(uid), ..) => Ok(uid),
            (None, Some(ends), Some(peers)) => peers.uid_between(ends),
            _ => Err(Unnamed::Remote),
        };
        state.decide(uid)
    }

    /// Whether one more refusal is worth a line at this second, and how many before it were not.
    pub fn may_log(&self, now_seconds: u32) -> Option<u64> {
        self.0.lock().lines.take(now_seconds)
    }
}

impl State {
    fn decide(&mut self, uid: Result<u32, Unnamed>) -> Result<Admission, Refusal> {
        if self.rules.is_none() {
            return Ok(Admission {
                uid: uid.ok(),
                read_only: false,
            });
        }
        let uid = uid.map_err(Refusal::Unnamed)?;
        let known = self.know(uid)?;
        match known.verdict {
            Verdict::Full | Verdict::ReadOnly => Ok(Admission {
                uid: Some(uid),
                read_only: known.verdict == Verdict::ReadOnly,
            }),
            verdict => Err(Refusal::User {
                uid,
                name: known.name,
                verdict,
            }),
        }
    }

    /// The verdict on this uid, from memory or from the rules.
    fn know(&mut self, uid: u32) -> Result<Known, Refusal> {
        let Some(rules) = &self.rules else {
            return Ok(Known {
                verdict: Verdict::Full,
                name: None,
            });
        };
        if let Some(known) = self.known.get(&uid) {
            return Ok(known.clone());
        }
        let gids = if rules.name_groups() {
            gids_of(uid).map_err(|error| Refusal::Groups(uid, error))?
        } else {
            Vec::new()
        };
        let verdict = rules.verdict(&Person {
            uid,
            gids: &gids,
            server_uid: self.server_uid,
        });
        let is_refused = matches!(verdict, Verdict::Denied | Verdict::Unlisted);
        let name = is_refused.then(|| name_of(uid)).flatten();
        let known = Known { verdict, name };
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(uid, known.clone());
        Ok(known)
    }
}

/// All groups of a user; none of one that the database does not know. May block on it.
fn gids_of(uid: u32) -> io::Result<Vec<u32>> {
    let Some(user) = User::from_uid(Uid::from_raw(uid))? else {
        return Ok(Vec::new());
    };
    let name = CString::new(user.name).map_err(|_| io::ErrorKind::InvalidData)?;
    let gids = getgrouplist(&name, user.gid)?;
    Ok(gids.into_iter().map(|gid| gid.as_raw()).collect())
}

/// May block on the user database.
fn name_of(uid: u32) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map(|user| user.name)
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

    #[test]
    fn without_rules_nothing_is_opened_and_everybody_may() {
        let access = Access::new(None).unwrap();
        assert!(access.0.lock().peers.is_none() && !access.is_on());
        let admission = access.reconsider(None, None).unwrap();
        assert_eq!(
            admission,
            Admission {
                uid: None,
                read_only: false
            }
        );
    }

    #[test]
    fn whoever_cannot_be_named_is_refused_by_any_rule() {
        let rules = Rules {
            read_only: vec![Subject::User(7)],
            others: true,
            ..Rules::default()
        };
        let access = Access::new(Some(rules)).unwrap();
        let refusal = access.reconsider(None, None).unwrap_err();
        assert_eq!(
            refusal.line("refused", "tcp:[::1]:1"),
            "refused a peer that cannot be named on tcp:[::1]:1: it is not on loopback"
        );
        assert!(access.reconsider(Some(7), None).unwrap().read_only);
        assert!(!access.reconsider(Some(8), None).unwrap().read_only);
        access.replace(None).unwrap();
        assert!(!access.reconsider(Some(7), None).unwrap().read_only);
    }

    #[test]
    fn what_is_remembered_of_users_is_bounded() {
        let rules = Rules {
            others: true,
            ..Rules::default()
        };
        let access = Access::new(Some(rules)).unwrap();
        for uid in 0..3 * KNOWN_MAX as u32 {
            access.reconsider(Some(uid), None).unwrap();
            assert!(access.0.lock().known.len() <= KNOWN_MAX);
        }
    }
}
