//! Signals that ask a long command for its end, so that it can write what it has.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use tokio::signal::unix::{SignalKind, signal};

use super::Error;

/// From here on, SIGINT, SIGTERM and SIGHUP set what is given, and `says` is told on standard error; a second one ends
/// the process.
///
/// # Errors
/// [`Error::System`].
pub fn ask_for_end(says: &'static str) -> Result<Arc<AtomicBool>, Error> {
    let failed = |why| Error::System("wait for signals", why);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let signals: Result<Vec<_>, _> = {
        let _entered = runtime.enter();
        kinds.map(signal).into_iter().collect()
    };
    let mut signals = signals.map_err(failed)?;
    let asked = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&asked);
    let wait = move || {
        runtime.block_on(async {
            let [interrupt, terminate, hangup] = &mut signals[..] else {
                return;
            };
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
                if set.swap(true, Relaxed) {
                    std::process::exit(130);
                }
                eprintln!("{says}");
            }
        });
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map_err(failed)?;
    Ok(asked)
}
