//! What the service manager is told (sd_notify(3)): that clients are served, that files are read again, that
//! the end has come, and, for its watchdog, that every worker still answers.
//!
//! `mod.rs` calls it in the main thread. Without a manager that asked for it (`NOTIFY_SOCKET`, `WATCHDOG_USEC`)
//! nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::runtime::Handle;

/// Says that clients are served, with what was read last.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that files are read again; [`ready`] says when that is done.
pub fn reloading() {
    let mut states = vec![NotifyState::Reloading];
    // What systemd from 253 on wants with it.
    states.extend(NotifyState::monotonic_usec_now());
    tell(&states);
}

/// Waits a second if a manager starts the process again, so that starts that fail are no flood.
pub fn before_another_start() {
    if std::env::var_os("NOTIFY_SOCKET").is_some() {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Says that the end has come.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Within what time the manager wants to hear that all is well, if it does.
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

/// Says twice within `limit` that all is well, for as long as all workers answer; never returns.
pub async fn keep_alive(workers: Vec<Handle>, limit: Duration) {
    loop {
        if !all_answer(&workers).await {
            tracing::error!("a worker has ended: the service manager's watchdog will act");
            return std::future::pending().await;
        }
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(limit / 2).await;
    }
}

/// Has every worker do something, and waits until it is done: for ever, if one hangs.
async fn all_answer(workers: &[Handle]) -> bool {
    let asked: Vec<_> = workers
        .iter()
        .map(|worker| worker.spawn(async {}))
        .collect();
    for answer in asked {
        if answer.await.is_err() {
            return false;
        }
    }
    true
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::task::Poll;
    use std::thread::JoinHandle;

    use tokio::sync::oneshot;

    use super::*;

    /// A thread that does what it is asked to until `end` is dropped.
    fn worker() -> (Handle, oneshot::Sender<()>, JoinHandle<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let (end, ended) = oneshot::channel();
        let handle = runtime.handle().clone();
        let thread = std::thread::spawn(move || drop(runtime.block_on(ended)));
        (handle, end, thread)
    }

    #[tokio::test]
    async fn a_worker_that_hangs_holds_the_answer_up() {
        let (idle, _keep, _thread) = worker();
        let (hanging, end, thread) = worker();
        let workers = [idle, hanging.clone()];
        assert!(all_answer(&workers).await);
        let (began, begun) = channel();
        let (release, held) = channel::<()>();
        drop(hanging.spawn(async move {
            began.send(()).unwrap();
            held.recv()
        }));
        begun.recv().unwrap();
        let mut answer = std::pin::pin!(all_answer(&workers));
        for _ in 0..10 {
            let poll = std::future::poll_fn(|context| Poll::Ready(answer.as_mut().poll(context)));
            assert!(poll.await.is_pending());
            tokio::task::yield_now().await;
        }
        release.send(()).unwrap();
        assert!(answer.await);
        drop(end);
        thread.join().unwrap();
        assert!(!all_answer(&workers).await, "one has ended");
    }
}
