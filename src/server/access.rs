//! Who may connect, and who may only read: the `[access]` rules, decided when a connection is accepted.
//!
//! `config` fills [`Rules`] (`rules`). `acceptor` asks [`Access::admit`] for each connection before a byte of it is
//! read; `reload` puts new rules in force ([`Access::replace`]) and asks [`Access::reconsider`] for the connections that
//! there are. Who is at the other end, `peer` finds.
//!
//! Invariants:
//! - without rules everybody who can connect may; who it is, is looked up for metrics alone, if at all;
//! - with rules, whoever cannot be named is refused;
//! - the user database, which may be slow, is never asked in the thread that accepts: for groups, where a
//!   rule names one, [`Access::settle`] asks it once for all connections of a uid that come meanwhile, for at
//!   most `GROUPS_WITHIN`; for the name of who is refused, [`Refusal::line`] does, for lines that are
//!   written. What it said of groups holds until the rules are read again, for at most `KNOWN_MAX` uids; if
//!   it fails or does not know the user, it is asked again the next time;
//! - refusals are logged within a quota (`complaint`), with how many were not; those of peers that cannot be
//!   named within one of their own.

mod rules;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::complaint::Quota;
pub use super::peer::Ends;
use super::peer::{self, Peers, Unnamed};
use super::user_database;
use crate::clock::Clock;
pub use rules::{Person, Rules, Subject, Verdict};

/// Users whose groups are remembered.
const KNOWN_MAX: usize = 1024;

/// How long the user database may take to name somebody's groups.
const GROUPS_WITHIN: Duration = Duration::from_secs(5);

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
    /// tcp:127.0.0.1:11211: not in [access] connect`. Asks the user database for the name, which may block.
    pub fn line(&self, done: &str, listener: &str) -> String {
        match self {
            Refusal::User { uid, verdict } => {
                let name =
                    user_database::name_of(*uid).map(|name| format!(" ({})", name.escape_debug()));
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
    names_services: bool,
    /// Open from the first rules on, or from the start.
    peers: Option<Peers>,
    /// Groups by user, where a rule names one.
    groups: HashMap<u32, Groups>,
    lines: Lines,
}

/// Lines about refusals: whoever leaves before it can be named hides nobody's name.
#[derive(Debug, Default)]
struct Lines {
    named: Quota,
    unnamed: Quota,
}

/// The groups of a user, once they are known; shared by all who wait for them.
type Groups = Arc<OnceCell<Vec<u32>>>;

/// What is decided of a connection.
#[derive(Debug)]
pub enum Decision {
    /// It is let in, or refused.
    Made(Result<Admission, Refusal>),
    /// The groups of its user have to be looked up first: see [`Access::settle`].
    AskGroups(u32),
}

impl Access {
    /// Puts the first rules in force. Without any, `names_services` says whether to ask all the same who
    /// connects.
    ///
    /// # Errors
    /// If there are rules, and the kernel does not say who is at the other end of a TCP connection.
    pub fn new(rules: Option<Rules>, names_services: bool) -> io::Result<Access> {
        let access = Access(Mutex::new(State {
            rules: None,
            names_services,
            server_uid: nix::unistd::geteuid().as_raw(),
            peers: None,
            groups: HashMap::new(),
            lines: Lines::default(),
        }));
        if names_services && rules.is_none() {
            match Peers::open() {
                Ok(peers) => access.0.lock().peers = Some(peers),
                Err(error) => tracing::warn!(
                    "metrics count all TCP clients as one service: who they are cannot be looked up: {error}; allow AF_NETLINK"
                ),
            }
        }
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
        state.groups.clear();
        Ok(())
    }

    /// Says in the log which rules are in force.
    pub fn tell(&self) {
        match &self.0.lock().rules {
            Some(rules) => tracing::info!("access: {rules}"),
            None => tracing::info!("access: no rules, whoever reaches an address may use it"),
        }
    }

    /// Whether clients are counted by their users.
    pub fn names_services(&self) -> bool {
        self.0.lock().names_services
    }

    /// Whether it is asked who is at the other end of a TCP connection.
    pub fn asks(&self) -> bool {
        self.0.lock().peers.is_some()
    }

    /// Decides on a connection that was accepted. Costs a look-up of microseconds where who it
    /// is has to be known. Never blocks.
    pub fn admit(&self, socket: Socket<'_>) -> Decision {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let uid = match socket {
            // Known at once, and wanted if rules come later, when nobody can ask any more.
            Socket::Unix(stream) => peer::uid_on_unix(stream).map_err(Unnamed::Unanswered),
            Socket::Tcp(stream, ends) => match &mut state.peers {
                Some(peers) => peers.uid_on_tcp(ends, stream),
                None => Err(Unnamed::Remote),
            },
        };
        state.decide(uid)
    }

    /// Decides on a connection that was let in earlier, by who it is or else by its ends.
    pub fn reconsider(&self, uid: Option<u32>, ends: Option<Ends>) -> Decision {
        let mut state = self.0.lock();
        let uid = match (uid, ends, &mut state.peers) {
            (Some(uid), ..) => Ok(uid),
            (None, Some(ends), Some(peers)) => peers.uid_between(ends),
            _ => Err(Unnamed::Remote),
        };
        state.decide(uid)
    }

    /// Comes to an end with a decision: looks groups up where it takes that, on a thread that may block.
    ///
    /// # Errors
    /// Why the connection is refused.
    pub async fn settle(&self, decision: Decision) -> Result<Admission, Refusal> {
        match decision {
            Decision::Made(decided) => decided,
            Decision::AskGroups(uid) => {
                let asked = tokio::time::timeout(GROUPS_WITHIN, self.groups_of(uid)).await;
                let gids = asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                let gids = gids.map_err(|error| Refusal::Groups(uid, error))?;
                self.0.lock().judge(uid, &gids)
            }
        }
    }

    async fn groups_of(&self, uid: u32) -> io::Result<Vec<u32>> {
        let cell = self.0.lock().cell(uid);
        let look_up = || async {
            let looked_up = tokio::task::spawn_blocking(move || user_database::gids_of(uid)).await;
            looked_up.map_err(io::Error::other)?
        };
        let gids = cell.get_or_try_init(look_up).await?.clone();
        if gids.is_empty() {
            // Nobody that the database knows, now.
            self.0.lock().groups.remove(&uid);
        }
        Ok(gids)
    }

    /// Writes the line of the log about a refusal, unless there were many just now, from a thread that may
    /// block on the user database.
    pub fn complain(&self, done: &'static str, refusal: Refusal, listener: &Arc<str>) {
        let Some(more) = self.may_log(&refusal) else {
            return;
        };
        let listener = Arc::clone(listener);
        tokio::task::spawn_blocking(move || {
            let line = refusal.line(done, &listener);
            match more {
                0 => tracing::warn!("{line}"),
                more => tracing::warn!("{line}, and {more} more before that"),
            }
        });
    }

    /// Whether this refusal is worth a line now, and how many before it were not.
    fn may_log(&self, refusal: &Refusal) -> Option<u64> {
        let now_seconds = Clock::System.now().seconds;
        let lines = &mut self.0.lock().lines;
        match refusal {
            Refusal::Unnamed(_) => lines.unnamed.take(now_seconds),
            Refusal::User { .. } | Refusal::Groups(..) => lines.named.take(now_seconds),
        }
    }
}

impl State {
    fn decide(&self, uid: Result<u32, Unnamed>) -> Decision {
        let Some(rules) = &self.rules else {
            return Decision::Made(Ok(Admission {
                uid: uid.ok(),
                read_only: false,
            }));
        };
        let uid = match uid {
            Ok(uid) => uid,
            Err(unnamed) => return Decision::Made(Err(Refusal::Unnamed(unnamed))),
        };
        let known = self.groups.get(&uid).and_then(|cell| cell.get());
        let gids = match known {
            Some(gids) => gids.as_slice(),
            None if rules.name_groups() => return Decision::AskGroups(uid),
            None => &[],
        };
        Decision::Made(self.judge(uid, gids))
    }

    /// What the rules in force say of a user with these groups.
    fn judge(&self, uid: u32, gids: &[u32]) -> Result<Admission, Refusal> {
        let person = Person {
            uid,
            gids,
            server_uid: self.server_uid,
        };
        let verdict = self
            .rules
            .as_ref()
            .map_or(Verdict::Full, |rules| rules.verdict(&person));
        match verdict {
            Verdict::Full | Verdict::ReadOnly => Ok(Admission {
                uid: Some(uid),
                read_only: verdict == Verdict::ReadOnly,
            }),
            Verdict::Denied | Verdict::Unlisted => Err(Refusal::User { uid, verdict }),
        }
    }

    /// Where the groups of a user are, or will be.
    fn cell(&mut self, uid: u32) -> Groups {
        if self.groups.len() >= KNOWN_MAX
            && let Some(&other) = self.groups.keys().find(|&&known| known != uid)
        {
            self.groups.remove(&other);
        }
        Arc::clone(self.groups.entry(uid).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reconsidered(access: &Access, uid: Option<u32>) -> Result<Admission, Refusal> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(access.settle(access.reconsider(uid, None)))
    }

    #[test]
    fn without_rules_everybody_may_and_who_it_is_need_not_be_asked() {
        assert!(Access::new(None, true).unwrap().asks());
        let access = Access::new(None, false).unwrap();
        assert!(!access.asks());
        let admission = reconsidered(&access, None).unwrap();
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
        let access = Access::new(Some(rules), true).unwrap();
        let refusal = reconsidered(&access, None).unwrap_err();
        assert_eq!(
            refusal.line("refused", "tcp:[::1]:1"),
            "refused a peer that cannot be named on tcp:[::1]:1: it is not on loopback"
        );
        assert!(reconsidered(&access, Some(7)).unwrap().read_only);
        assert!(!reconsidered(&access, Some(8)).unwrap().read_only);
        access.replace(None).unwrap();
        assert!(!reconsidered(&access, Some(7)).unwrap().read_only);
    }

    #[test]
    fn groups_are_asked_for_once_and_only_where_a_rule_names_one() {
        let rules = Rules {
            connect: vec![Subject::Group(0)],
            ..Rules::default()
        };
        let access = Access::new(Some(rules), true).unwrap();
        assert!(matches!(
            access.reconsider(Some(0), None),
            Decision::AskGroups(0)
        ));
        assert!(reconsidered(&access, Some(0)).is_ok());
        assert!(matches!(
            access.reconsider(Some(0), None),
            Decision::Made(Ok(_))
        ));
        // Whom nobody knows may be known the next time.
        let nobody = Some(u32::MAX - 1);
        for _ in 0..2 {
            assert!(matches!(
                access.reconsider(nobody, None),
                Decision::AskGroups(_)
            ));
            assert!(reconsidered(&access, nobody).is_err());
        }
        access.replace(Some(Rules::default())).unwrap();
        assert!(matches!(
            access.reconsider(Some(0), None),
            Decision::Made(Err(_))
        ));
    }

    #[test]
    fn what_is_remembered_of_users_is_bounded() {
        let access = Access::new(None, false).unwrap();
        for uid in 0..3 * KNOWN_MAX as u32 {
            access.0.lock().cell(uid);
            assert!(access.0.lock().groups.len() <= KNOWN_MAX);
        }
    }
}
