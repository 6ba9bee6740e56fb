//! The counter: an NV index of the owner hierarchy. It is in the file before it is in the TPM, so that none is made
//! twice and none forgotten.

use akm_core::element::ElementError;

use super::command::NV_INDICES;
use super::failure::{self, Failure};
use super::session::{Handle, Session, Tpm, no_randomness};
use super::state::{Counter, State};
use super::template::{Name, counter_public};
use super::wrapping::new_authorisation;
use super::{STORAGE_HANDLE, make_storage};

/// Where the counters of AKM are, in the owner's range: the first index that is free.
pub(super) const COUNTER_FIRST: u32 = 0x0180_4b00;
const COUNTER_LAST: u32 = 0x0180_4bff;

/// Chooses an index that is free.
pub(super) fn intend_counter(tpm: &mut Tpm) -> Result<Counter, Failure> {
    let taken = tpm.handles(NV_INDICES)?;
    let index = (COUNTER_FIRST..=COUNTER_LAST).find(|index| !taken.contains(index)).ok_or_else(|| {
        ElementError::Refused(format!(
            "all indices from {COUNTER_FIRST:#x} to {COUNTER_LAST:#x} in the TPM are taken: remove what nobody \
             needs (tpm2_nvundefine)"
        ))
    })?;
    let authorisation = new_authorisation().map_err(|error| no_randomness(&error))?;
    Ok(Counter { index, authorisation, is_made: false })
}

/// Makes the counter that is intended, where it is not there yet. Whether it is ours: another program may have
/// been quicker.
pub(super) fn make_counter(tpm: &mut Tpm, state: &State) -> Result<bool, Failure> {
    let Counter { index, authorisation, .. } = &state.counter;
    let (empty, written) = (counter_public(*index, false), counter_public(*index, true));
    let present = tpm.read_index(*index)?;
    let mut session = tpm.start_session(STORAGE_HANDLE, &state.storage)?;
    match present {
        None => match tpm.define_index(&mut session, authorisation, &empty) {
            Err(failure) if failure.is(failure::NV_DEFINED) => return Ok(false),
            defined => defined?,
        },
        Some(present) if present == empty => {}
        Some(present) if present == written => return holds_counter(tpm, state),
        Some(_) => return Ok(false),
    }
    let handle = Handle::named(*index, Name::of(&empty));
    is_permitted(tpm.increment(&mut session, handle, authorisation))
}

/// Whether there is a counter under the index of the state that takes its authorisation.
fn holds_counter(tpm: &mut Tpm, state: &State) -> Result<bool, Failure> {
    let mut session = tpm.start_session(STORAGE_HANDLE, &state.storage)?;
    let handle = counter_handle(&state.counter);
    is_permitted(tpm.read_counter(&mut session, handle, &state.counter.authorisation).map(drop))
}

/// Whether an authorisation was the right one. A wrong one locks nothing: AKM's counters are exempt from that.
fn is_permitted(done: Result<(), Failure>) -> Result<bool, Failure> {
    match done {
        Err(failure)
            if [failure::BAD_AUTH, failure::AUTH_FAIL, failure::NV_AUTHORIZATION]
                .iter()
                .any(|code| failure.is(*code)) =>
        {
            Ok(false)
        }
        done => done.map(|()| true),
    }
}

fn counter_handle(counter: &Counter) -> Handle {
    Handle::named(counter.index, Name::of(&counter_public(counter.index, true)))
}

/// Removes the counter from the TPM if it is this node's, in the TPM of this node.
pub(super) fn remove_counter(tpm: &mut Tpm, state: &State) -> Result<(), Failure> {
    let Counter { index, authorisation, .. } = &state.counter;
    let Some(present) = tpm.read_index(*index)? else {
        return Ok(());
    };
    if make_storage(tpm, Some(&state.storage))? != state.storage {
        return Ok(());
    }
    let mut session = tpm.start_session(STORAGE_HANDLE, &state.storage)?;
    if present == counter_public(*index, false) {
        // It never counted, so it cannot be read; counting shows whose it is.
        let handle = Handle::named(*index, Name::of(&present));
        if !is_permitted(tpm.increment(&mut session, handle, authorisation))? {
            return Ok(());
        }
    } else if present != counter_public(*index, true) || !holds_counter(tpm, state)? {
        return Ok(());
    }
    tpm.undefine_index(&mut session, counter_handle(&state.counter))
}

/// The counter under the TPM's own checks; gone or another's is damage.
pub(super) fn with_counter<T>(
    tpm: &mut Tpm,
    state: &State,
    work: impl FnOnce(&mut Tpm, &mut Session, Handle) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut session = tpm.start_session(STORAGE_HANDLE, &state.storage)?;
    work(tpm, &mut session, counter_handle(&state.counter)).map_err(|failure| {
        if failure.is(failure::HANDLE) {
            return ElementError::Damaged(format!(
                "its counter under {:#x} is gone from the TPM: provision the node again",
                state.counter.index
            ))
            .into();
        }
        failure
    })
}
