//! Signals that ask a long command for its end, so that it can put things in order first.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::Error;

/// From here on, SIGINT, SIGTERM and SIGHUP set what is given, and `says` is told on standard error; a second one ends
/// the process.
///
/// # Errors
/// [`Error::System`].
pub fn ask_for_end(says: &'static str) -> Result<Arc<AtomicBool>, Error> {
    let asked = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&asked);
    each(move || {
        if set.swap(true, Relaxed) {
            std::process::exit(130);
        }
        eprintln!("{says}");
    })?;
    Ok(asked)
}

/// From here on, a thread of its own calls `act` for each SIGINT, SIGTERM and SIGHUP, which no longer end the process.
///
/// # Errors
/// [`Error::System`].
pub fn each(mut act: impl FnMut() + Send + 'static) -> Result<(), Error> {
    let failed = |why| Error::System("wait for signals", why);
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let of_kind = |kind| {
        let _entered = runtime.enter();
        signal(kind).map_err(failed)
    };
    let mut interrupt = of_kind(SignalKind::interrupt())?;
    let mut terminate = of_kind(SignalKind::terminate())?;
    let mut hangup = of_kind(SignalKind::hangup())?;
    let wait = move || {
        loop {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            });
            act();
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(wait).map(drop).map_err(failed)
}
