//! What the kernel knows about the server's process: processor time, memory, and how often it woke
//! up.
//!
//! Read from `/proc` before and after a measurement by [`load`](super::load), [`hold`](super::hold)
//! and [`idle`](super::idle); so it needs the server on the same machine. Source: proc(5),
//! sched-stats of the kernel's documentation.
//!
//! Invariants: a [`Sample`] covers all threads; one that ended between two samples takes its time
//! with it in `run_ns` and in the switches, so measure servers whose threads stay.

use super::wire::Connection;
use super::{Error, Target};
use rustix::param::clock_ticks_per_second;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The counters of one process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Seconds in user space, counted in clock ticks.
    pub user_seconds: f64,
    /// Seconds in the kernel, counted in clock ticks.
    pub system_seconds: f64,
    /// Nanoseconds on a processor, exact; `None` where the kernel keeps no scheduler statistics.
    pub run_ns: Option<u64>,
    /// Times a thread gave up its processor by itself: each is followed by one wake-up.
    pub voluntary_switches: u64,
    /// Times a thread lost its processor to another one.
    pub involuntary_switches: u64,
    /// Resident memory, memory files that are mapped included.
    pub rss_bytes: u64,
}

/// What a process used between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Seconds of processor time; to the nanosecond where the kernel tells, else to the tick.
    pub cpu_seconds: f64,
    /// The part in user space, to the tick.
    pub user_seconds: f64,
    /// The part in the kernel, to the tick.
    pub system_seconds: f64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
}

impl Sample {
    /// Looks at a process. Costs the process nothing; a few reads per thread.
    ///
    /// # Errors
    /// [`Error::Process`] if there is no such process or it may not be looked at.
    pub fn of(pid: u32) -> Result<Self, Error> {
        sample(pid).map_err(|why| Error::Process(pid, why))
    }

    /// What was used since `earlier`, a sample of the same process.
    pub fn since(&self, earlier: &Sample) -> Usage {
        let user_seconds = self.user_seconds - earlier.user_seconds;
        let system_seconds = self.system_seconds - earlier.system_seconds;
        let exact = self.run_ns.zip(earlier.run_ns);
        Usage {
            cpu_seconds: exact.map_or(user_seconds + system_seconds, |(now, then)| {
                now.saturating_sub(then) as f64 / 1e9
            }),
            user_seconds,
            system_seconds,
            voluntary_switches: self
                .voluntary_switches
                .saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(earlier.involuntary_switches),
        }
    }
}

fn sample(pid: u32) -> io::Result<Sample> {
    let unread = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let (user, system) = ticks(&stat).ok_or_else(|| unread("no utime in stat"))?;
    let per_second = clock_ticks_per_second() as f64;
    let mut sample = Sample {
        user_seconds: user as f64 / per_second,
        system_seconds: system as f64 / per_second,
        run_ns: Some(0),
        rss_bytes: field(&status, "VmRSS").ok_or_else(|| unread("no VmRSS in status"))? << 10,
        ..Sample::default()
    };
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        add_task(&mut sample, &task?.path());
    }
    Ok(sample)
}

/// Adds one thread's counters; a thread that has just ended adds nothing.
fn add_task(sample: &mut Sample, task: &std::path::Path) {
    let Ok(status) = fs::read_to_string(task.join("status")) else {
        return;
    };
    sample.voluntary_switches += field(&status, "voluntary_ctxt_switches").unwrap_or(0);
    sample.involuntary_switches += field(&status, "nonvoluntary_ctxt_switches").unwrap_or(0);
    let ran = fs::read_to_string(task.join("schedstat"))
        .ok()
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    sample.run_ns = sample.run_ns.zip(ran).map(|(sum, ran)| sum + ran);
}

/// `utime` and `stime` of a `stat` line; the name before them may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user = fields.nth(11)?.parse().ok()?;
    let system = fields.next()?.parse().ok()?;
    Some((user, system))
}

/// The number in `name:  number` of a `status` file.
fn field(status: &str, name: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

/// The process that listens at `target`, if it is on this machine and may be looked at.
///
/// Needs root for another user's server on TCP. Reads `/proc` of all processes: some milliseconds.
pub async fn listening_at(target: &Target) -> Option<u32> {
    match target {
        Target::Tcp(address) => {
            let inode = listening_inode(address)?;
            owner_of(&format!("socket:[{inode}]"))
        }
        Target::Unix(_) => Connection::open(target).await.ok()?.peer_pid(),
    }
}

fn listening_inode(address: &SocketAddr) -> Option<u64> {
    if !address.ip().is_loopback() {
        return None;
    }
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .find_map(|table| table.lines().find_map(|line| listener(line, address)))
}

/// The inode in a line of `/proc/net/tcp`, if it is of a socket that listens at `address` or at all
/// addresses.
fn listener(line: &str, address: &SocketAddr) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (ip, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let here = ip == table_form(address.ip()) || ip.bytes().all(|digit| digit == b'0');
    let same_port = u16::from_str_radix(port, 16) == Ok(address.port());
    let listens = state == "0A" && here && same_port;
    listens.then(|| fields.nth(5)?.parse().ok()).flatten()
}

/// An address as `/proc/net/tcp` writes it: words of four bytes in the machine's own order.
fn table_form(ip: IpAddr) -> String {
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let word = |bytes: &[u8]| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    octets
        .chunks_exact(4)
        .map(|bytes| format!("{:08X}", word(bytes)))
        .collect()
}

/// The process that holds this file open; the service manager, which keeps it too, if it is nobody else's.
fn owner_of(link: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?;
    let owners = processes.flatten().filter_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut files = fs::read_dir(process.path().join("fd")).ok()?.flatten();
        files
            .any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == link))
            .then_some(pid)
    });
    owners.max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 71 82 13 14";
        assert_eq!(ticks(stat), Some((71, 82)));
        assert_eq!(ticks("12 (a) S 1"), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmRSSx:\t5 kB\nVmRSS:\t  77 kB\nvoluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\n";
        assert_eq!(field(status, "VmRSS"), Some(77));
        assert_eq!(field(status, "voluntary_ctxt_switches"), Some(3));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches"), Some(4));
        assert_eq!(field(status, "VmPeak"), None);
    }

    #[test]
    fn usage_is_exact_where_the_kernel_tells() {
        let earlier = Sample {
            user_seconds: 1.0,
            run_ns: Some(1_000_000_000),
            voluntary_switches: 5,
            ..Sample::default()
        };
        let later = Sample {
            user_seconds: 1.5,
            run_ns: Some(1_500_000_001),
            voluntary_switches: 7,
            ..earlier
        };
        let usage = later.since(&earlier);
        assert_eq!((usage.user_seconds, usage.voluntary_switches), (0.5, 2));
        assert_eq!(usage.cpu_seconds, 0.500_000_001);
        let coarse = Sample {
            run_ns: None,
            ..later
        };
        assert_eq!(coarse.since(&earlier).cpu_seconds, 0.5);
    }

    #[test]
    fn this_process_can_be_looked_at() {
        let sample = Sample::of(std::process::id()).unwrap();
        assert!(sample.rss_bytes > 100_000);
        assert!(matches!(Sample::of(0), Err(Error::Process(0, _))));
    }

    #[test]
    fn a_listener_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inode = listening_inode(&address).unwrap();
        assert_eq!(
            owner_of(&format!("socket:[{inode}]")),
            Some(std::process::id())
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn lines_of_the_table_are_read() {
        let line = "   0: 0100007F:2BCB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9317 1 0 100";
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(listener(line, &at("127.0.0.1:11211")), Some(9317));
        assert_eq!(listener(line, &at("127.0.0.2:11211")), None);
        assert_eq!(listener(line, &at("127.0.0.1:11212")), None);
        let connected = line.replace(" 0A ", " 01 ");
        assert_eq!(listener(&connected, &at("127.0.0.1:11211")), None);
    }
}
