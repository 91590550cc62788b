//! The heap: that of the process before, or an empty one.
//!
//! `server::run` calls [`store`] when all that needs privileges is done; what it makes is kept for a successor
//! at once.
//!
//! Invariant: a heap that cannot be used costs the items and nothing else, and one line says why.

use super::fd_store::FdStore;
use super::{Inherited, Role};
use crate::clock::Clock;
use crate::server::StartError;
use crate::store::{Options, Recovered, Store};

/// The store, with the items of the process before if there was one.
///
/// # Errors
/// The memory file cannot be made.
pub fn store(
    options: &Options,
    inherited: &Inherited,
    fd_store: &FdStore,
) -> Result<Store, StartError> {
    if let Some(store) = taken_over(options, inherited) {
        fd_store.keep(Role::Heap, store.file());
        return Ok(store);
    }
    let store = Store::new(options).map_err(|error| {
        let what = format!("the memory file cannot be made: {error}");
        StartError::new("memory_limit", what, "lower -m or --memory-ceiling")
    })?;
    if inherited.heap().is_some() {
        fd_store.forget(Role::Heap);
    }
    fd_store.keep(Role::Heap, store.file());
    Ok(store)
}

fn taken_over(options: &Options, inherited: &Inherited) -> Option<Store> {
    let Some(heap) = inherited.heap() else {
        // What came and was none has been said.
        if inherited.is_successor() && !inherited.refused().contains(&Role::Heap) {
            tracing::warn!("no heap has come from the process before; starts empty");
        }
        return None;
    };
    let begun = Clock::System.now();
    let opened = heap
        .try_clone_to_owned()
        .and_then(|heap| Store::open(heap, options, begun.seconds));
    match opened {
        Ok((store, recovered)) => {
            let nanos = Clock::System.now().nanos - begun.nanos;
            tracing::info!("{}", told(&recovered, store.usage().items, nanos));
            warn_of_limits(options, &store);
            Some(store)
        }
        Err(error) => {
            tracing::warn!("the heap of the process before cannot be used: {error}; starts empty");
            None
        }
    }
}

/// What became of the items, so many of which are there now.
fn told(recovered: &Recovered, kept: u64, nanos: u64) -> String {
    let Recovered {
        items,
        damaged,
        unfinished,
        too_large,
        ..
    } = recovered;
    let millis = nanos as f64 / 1e6;
    format!(
        "took {kept} items over in {millis:.1} ms; dropped: {damaged} damaged, {unfinished} unfinished, {too_large} too large, {} beyond the limit",
        items.saturating_sub(kept)
    )
}

/// Says what the file, which cannot grow, does not allow.
fn warn_of_limits(options: &Options, store: &Store) {
    let limit = store.limit_bytes();
    if limit < options.memory_limit_bytes {
        tracing::warn!(
            "memory_limit: {} MiB is beyond what the memory file was made for, it is {} MiB; stop the service and start it again for more",
            options.memory_limit_bytes >> 20,
            limit >> 20
        );
    }
    if store.item_bytes_max() < options.item_bytes_max {
        tracing::warn!(
            "max_item_size: {} KiB is more than half of that, it is {} KiB",
            options.item_bytes_max >> 10,
            store.item_bytes_max() >> 10
        );
    }
}
