//! Who may speak: users and passwords from memcached's file of `-Y`, a `user:password` a line.
//!
//! Read at the start and again on SIGHUP. `session` asks [`Users::judge`] about what `protocol::auth` has
//! read; nobody else sees a password.
//!
//! Invariants:
//! - a file that anybody can read is refused, at the start and at every SIGHUP; then what was read before
//!   stays in force;
//! - comparing takes the same time whichever user and however much of a password is right;
//! - no message holds anything of the file but its path and the numbers of its lines.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use subtle::{Choice, ConstantTimeEq};

use super::StartError;
use crate::protocol::auth::Credentials;
use crate::regular_file::{self, Unread};

/// Largest file, in bytes: it is not meant for more than a few users.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What anybody else may do with a file.
const OTHERS: u32 = 0o007;

/// How long the answer to a connection's first wrong password is held back.
const FIRST_DELAY: Duration = Duration::from_millis(500);

/// How long it is held back at most: below what clients wait, `memcache_pool_socket_timeout` being 3 s.
pub const LAST_DELAY: Duration = Duration::from_secs(2);

/// Wrong passwords within some seconds from which on every answer is held back, right ones' too: whoever
/// guesses over many connections would else know a right one by its answer coming at once.
const FLOOD: u32 = 20;

/// For how many seconds a wrong password counts, once or twice as long.
const FLOOD_SECONDS: u32 = 10;

/// How long to hold back the answer to a connection's wrong password, of which it is the `number`th.
fn delay(number: u32) -> Duration {
    let doublings = number.saturating_sub(1).min(2);
    (FIRST_DELAY * (1 << doublings)).min(LAST_DELAY)
}

/// What becomes of a user and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// They belong together.
    pub admitted: bool,
    /// How long to hold back the answer.
    pub pause: Duration,
}

/// Wrong passwords of all connections, by the time they came in.
#[derive(Debug, Default)]
struct Refusals {
    /// The number of the present stretch of `FLOOD_SECONDS`, and how many came in it.
    present: (u32, u32),
    /// How many came in the one before.
    before: u32,
}

impl Refusals {
    fn turn_to(&mut self, now_seconds: u32) {
        let stretch = now_seconds / FLOOD_SECONDS;
        let (present, count) = self.present;
        if stretch != present {
            self.before = if stretch == present + 1 { count } else { 0 };
            self.present = (stretch, 0);
        }
    }

    fn note(&mut self, now_seconds: u32) {
        self.turn_to(now_seconds);
        self.present.1 = self.present.1.saturating_add(1);
    }

    fn is_flood(&mut self, now_seconds: u32) -> bool {
        self.turn_to(now_seconds);
        self.before.saturating_add(self.present.1) > FLOOD
    }
}

/// The users, and their passwords.
pub struct Users {
    path: PathBuf,
    entries: RwLock<Vec<Entry>>,
    refusals: Mutex<Refusals>,
}

struct Entry {
    user: Box<[u8]>,
    password: Box<[u8]>,
}

impl fmt::Debug for Users {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Users({})", self.path.display())
    }
}

impl Users {
    /// Reads the file.
    ///
    /// # Errors
    /// If it cannot be read, may be read by anybody, or has a line that is no `user:password`.
    pub fn load(path: &Path) -> Result<Users, StartError> {
        Users::new(path, read(path)?)
    }

    /// Goes on with the users that another process has read from the file; `None` if the text is none of such a
    /// file's.
    pub fn of_copy(path: &Path, text: &[u8]) -> Option<Users> {
        let entries = parse(text).ok().filter(|entries| !entries.is_empty())?;
        Users::new(path, entries).ok()
    }

    fn new(path: &Path, entries: Vec<Entry>) -> Result<Users, StartError> {
        Ok(Users {
            // The working folder is another one in the background.
            path: std::path::absolute(path).map_err(StartError::system)?,
            entries: RwLock::new(entries),
            refusals: Mutex::default(),
        })
    }

    /// The file with the users in force: its path, and what would be in it.
    pub fn file(&self) -> (PathBuf, Vec<u8>) {
        let entries = self.entries.read();
        let lines = entries
            .iter()
            .flat_map(|entry| [&*entry.user, b":", &*entry.password, b"\n"]);
        (self.path.clone(), lines.collect::<Vec<_>>().concat())
    }

    /// Reads the file again. Blocks for as long as that takes, and holds nobody up meanwhile.
    ///
    /// # Errors
    /// Those of [`Users::load`]; the users stay as they were then.
    pub fn reload(&self) -> Result<(), StartError> {
        let entries = read(&self.path)?;
        *self.entries.write() = entries;
        Ok(())
    }

    /// Judges a user and a password, or what is none, of a connection that was refused so many times
    /// before. A short lock.
    pub fn judge(
        &self,
        credentials: Option<&Credentials<'_>>,
        refused_before: u32,
        now_seconds: u32,
    ) -> Verdict {
        let admitted = credentials.is_some_and(|credentials| self.admit(credentials));
        let mut refusals = self.refusals.lock();
        if !admitted {
            refusals.note(now_seconds);
        }
        let pause = match (refusals.is_flood(now_seconds), admitted) {
            (true, _) => LAST_DELAY,
            (false, true) => Duration::ZERO,
            (false, false) => delay(refused_before.saturating_add(1)),
        };
        Verdict { admitted, pause }
    }

    /// Whether this user has this password. Compares with every user there is; only lengths can be told
    /// from how long it takes. A short lock that is shared by all.
    fn admit(&self, credentials: &Credentials<'_>) -> bool {
        let entries = self.entries.read();
        let matching = entries.iter().map(|entry| {
            entry.user.ct_eq(credentials.user) & entry.password.ct_eq(credentials.password)
        });
        matching
            .fold(Choice::from(0), |any, this| any | this)
            .into()
    }
}

fn read(path: &Path) -> Result<Vec<Entry>, StartError> {
    let name = path.display();
    let problem = |what, remedy| StartError::new("auth_file", what, remedy);
    let (text, about) =
        regular_file::read(path, FILE_BYTES_MAX).map_err(|unread| match unread {
            Unread::Failed(error) => problem(
                format!("{name} cannot be read: {error}"),
                "name a file with -Y that the user of -u may read",
            ),
            Unread::NoFile => problem(
                format!("{name} is no regular file"),
                "name a file of user:password lines with -Y",
            ),
            Unread::TooLarge => problem(
                format!("{name} is larger than 1 MiB"),
                "name a file of user:password lines with -Y",
            ),
        })?;
    let mode = about.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(problem(
            format!("{name} can be used by anybody (its mode is {mode:04o}) and holds passwords"),
            "chmod o= it",
        ));
    }
    let entries = parse(&text).map_err(|line| {
        problem(
            format!("{name}: line {line} is no user:password of a user that is not above it"),
            "write one a line: no space in a name, no empty password, no comments",
        )
    })?;
    if entries.is_empty() {
        let what = format!("{name} names no user, so that nobody could speak");
        return Err(problem(what, "write a user:password line into it"));
    }
    Ok(entries)
}

/// The entries; the number of the first line that is none. Empty lines are passed over.
fn parse(text: &[u8]) -> Result<Vec<Entry>, usize> {
    let mut entries = Vec::new();
    for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or(number)?;
        let (user, password) = (&line[..colon], &line[colon + 1..]);
        // A space ends the name on the wire, and a zero does in SASL.
        let is_name = !user.is_empty() && !user.iter().any(|byte| b" \0".contains(byte));
        // A user that was meant to be commented out would still be let in.
        let is_comment = user.starts_with(b"#");
        let is_known = entries.iter().any(|entry: &Entry| *entry.user == *user);
        if !is_name || is_comment || is_known || password.is_empty() || password.contains(&0) {
            return Err(number);
        }
        entries.push(Entry {
            user: user.into(),
            password: password.into(),
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    fn file(text: &str, mode: u32) -> (TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn admits(users: &Users, user: &str, password: &str) -> bool {
        users.admit(&Credentials {
            user: user.as_bytes(),
            password: password.as_bytes(),
        })
    }

    #[test]
    fn a_user_is_admitted_with_just_that_users_password() {
        let (_dir, path) = file("alice:secret\r\n\nbob:pass word:more", 0o600);
        let users = Users::load(&path).unwrap();
        assert!(admits(&users, "alice", "secret"));
        assert!(admits(&users, "bob", "pass word:more"));
        for (user, password) in [
            ("alice", "secre"),
            ("alice", "secret2"),
            ("alice", ""),
            ("alice", "pass word:more"),
            ("bob", "secret"),
            ("", ""),
            ("carol", "secret"),
        ] {
            assert!(!admits(&users, user, password), "{user} {password}");
        }
    }

    #[test]
    fn a_file_that_anybody_can_read_is_refused() {
        for mode in [0o604, 0o644, 0o602, 0o666] {
            let (_dir, path) = file("alice:secret\n", mode);
            let said = Users::load(&path).unwrap_err().to_string();
            assert!(said.contains("chmod o="), "{said}");
        }
        let (_dir, path) = file("alice:secret\n", 0o640);
        assert!(Users::load(&path).is_ok());
    }

    #[test]
    fn a_bad_line_is_named_by_its_number_alone() {
        for (text, line) in [
            ("alice:secret\nnonsense\n", 2),
            (":secret\n", 1),
            ("a b:secret", 1),
            ("alice:\n", 1),
            ("alice:secret\n#bob:secret\n", 2),
            ("alice:secret\nalice:more\n", 2),
        ] {
            let (_dir, path) = file(text, 0o600);
            let said = Users::load(&path).unwrap_err().to_string();
            assert!(said.contains(&format!("line {line} ")), "{said}");
            assert!(
                !said.contains("secret") && !said.contains("nonsense"),
                "{said}"
            );
        }
    }

    #[test]
    fn a_file_that_became_bad_leaves_the_users_as_they_were() {
        let (_dir, path) = file("alice:secret\n", 0o600);
        let users = Users::load(&path).unwrap();
        for bad in ["", "alice\n"] {
            fs::write(&path, bad).unwrap();
            assert!(users.reload().is_err());
            assert!(admits(&users, "alice", "secret"));
        }
        fs::write(&path, "alice:changed\n").unwrap();
        users.reload().unwrap();
        assert!(admits(&users, "alice", "changed") && !admits(&users, "alice", "secret"));
    }

    #[test]
    fn a_flood_of_wrong_passwords_hides_the_right_one_and_passes() {
        let (_dir, path) = file("alice:secret\n", 0o600);
        let users = Users::load(&path).unwrap();
        let judge = |password: &str, now| {
            let credentials = Credentials {
                user: b"alice",
                password: password.as_bytes(),
            };
            users.judge(Some(&credentials), 0, now)
        };
        let verdict = |admitted, pause| Verdict { admitted, pause };
        for _ in 0..FLOOD {
            assert_eq!(judge("secret", 100), verdict(true, Duration::ZERO));
            assert_eq!(judge("wrong", 100), verdict(false, FIRST_DELAY));
        }
        assert_eq!(judge("wrong", 101), verdict(false, LAST_DELAY));
        for now in [101, 110, 119] {
            assert_eq!(judge("secret", now), verdict(true, LAST_DELAY));
        }
        assert_eq!(judge("secret", 120), verdict(true, Duration::ZERO));
        assert_eq!(users.judge(None, 2, 200), verdict(false, LAST_DELAY));
    }

    #[test]
    fn wrong_passwords_slow_down_and_stay_below_what_clients_wait() {
        let delays: Vec<_> = (1..6).map(|number| delay(number).as_millis()).collect();
        assert_eq!(delays, [500, 1_000, 2_000, 2_000, 2_000]);
    }
}
