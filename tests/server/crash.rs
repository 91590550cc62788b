//! A process that is killed: connections break, and what is said afterwards is as true as before.
//!
//! The load is `load`'s, the manager `fd_store`'s. After each crash every client looks at all that it has
//! stored. `handover` has what is kept over a crash otherwise.

use std::net::SocketAddr;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::corpus::Random;
use crate::daemon::{Daemon, wait_until};
use crate::fd_store::Manager;
use crate::load::{Knowing, Step, Uniques, Wire};

const CLIENTS: usize = 200;
const CRASHES: usize = 20;
const ARGS: &str = "-m 256 -t 2";

/// What the clients and the one who kills have in common.
struct Load {
    address: SocketAddr,
    uniques: Uniques,
    over: AtomicBool,
    talks: AtomicUsize,
    breaks: AtomicUsize,
    /// How often everything was flushed; held by all who talk.
    flushes: RwLock<usize>,
}

impl Load {
    fn on(address: SocketAddr) -> Load {
        Load {
            address,
            uniques: Uniques::default(),
            over: AtomicBool::new(false),
            talks: AtomicUsize::new(0),
            breaks: AtomicUsize::new(0),
            flushes: RwLock::new(0),
        }
    }

    /// One client, until the load is over.
    fn client(&self, number: usize) {
        let mut knowing = Knowing::new(number, &self.uniques);
        let mut wire = Wire::to(self.address);
        let mut flushes = 0;
        while !self.over.load(Ordering::Relaxed) {
            let flushed = self.flushes.read().unwrap();
            if *flushed > flushes {
                flushes = *flushed;
                knowing.flushed();
            }
            if let Err(unanswered) = knowing.talk(&mut wire) {
                self.look(&mut knowing, &unanswered);
                wire = Wire::to(self.address);
                self.breaks.fetch_add(1, Ordering::Relaxed);
            }
            self.talks.fetch_add(1, Ordering::Relaxed);
        }
        self.look(&mut knowing, &[]);
    }

    /// Looks at all that a client has stored, over another crash if there is one.
    fn look(&self, knowing: &mut Knowing, unanswered: &[Step]) {
        loop {
            if let Ok(found) = knowing.look(&mut Wire::to(self.address)) {
                return knowing.settle(unanswered, &found);
            }
        }
    }

    fn wait_for_talks(&self, count: usize) {
        let before = self.talks.load(Ordering::Relaxed);
        wait_until("all talk", || {
            self.talks.load(Ordering::Relaxed) >= before + count
        });
    }

    /// Flushes everything while nobody talks, and kills the daemon before anybody does.
    fn flush_and_kill(&self, daemon: &mut Daemon) {
        let mut flushes = self.flushes.write().unwrap();
        assert_eq!(daemon.client().ask("flush_all"), "OK");
        *flushes += 1;
        kill(daemon);
    }
}

/// Ends the load, also when the test fails.
struct End<'l>(&'l Load);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

fn kill(daemon: &mut Daemon) {
    daemon.signal(Signal::KILL);
    assert!(!daemon.wait().success());
}

/// Starts the next process, which has to find every item whole or just being written.
fn start(manager: &Manager) -> Daemon {
    let daemon = manager.start(ARGS);
    manager.wait_for(&["config", "heap", "listen"]);
    let log = daemon.log();
    assert!(log.contains("; dropped: 0 damaged"), "{log}");
    daemon
}

#[test]
fn after_twenty_crashes_every_item_is_what_its_client_made_it() {
    let manager = Manager::new();
    let mut daemon = manager.start(ARGS);
    let load = Load::on(daemon.address());
    let mut random = Random::new(1);
    thread::scope(|scope| {
        let _end = End(&load);
        for number in 0..CLIENTS {
            let load = &load;
            scope.spawn(move || load.client(number));
        }
        for crash in 0..CRASHES {
            load.wait_for_talks(CLIENTS + random.below(CLIENTS));
            assert_eq!(daemon.stat("evictions"), 0);
            match crash % 4 {
                3 => load.flush_and_kill(&mut daemon),
                _ => kill(&mut daemon),
            }
            daemon = start(&manager);
            // A heap is not read a third time after two crashes in a row; an orderly end is none.
            load.wait_for_talks(random.below(CLIENTS));
            daemon.stop();
            daemon = start(&manager);
        }
    });
    // Nobody was spared.
    assert!(load.breaks.load(Ordering::Relaxed) > CLIENTS * CRASHES / 2);
}
