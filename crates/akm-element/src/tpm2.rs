//! A TPM 2.0 as a secure element, spoken to directly: no other software is needed on the node.
//!
//! ```text
//!   owner hierarchy ---- storage key (primary, persistent, AKM's own template)
//!                            |-- device key      made in the TPM, can never leave it
//!                            |-- root, root, ..  imported; may be used for HMAC and for nothing else
//!                   ---- NV counter
//!   endorsement hierarchy -- endorsement key     which TPM it is; made when it is needed
//! ```
//!
//! The storage key and the counter stay in the TPM. Device key and roots are in the file `element.tpm`, as the
//! TPM gave them out: only under this storage key, so only in this TPM, can they be loaded. Each is loaded when
//! it is used and flushed afterwards, and no session outlives a call, so nothing of the TPM's few places is
//! held.
//!
//! Root on the machine can use the roots while it has the machine, and cannot take them away.

mod command;
mod counter;
mod crypto;
mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod session;
mod spec;
mod state;
mod template;
mod transport;
mod wire;
mod wrapping;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use akm_core::element::{
    Description, ElementError, Label, MonotonicCounter, Protection, ProvisionableElement, Root, SecureElement,
};
use akm_core::keys::CONTEXT_LENGTH;
use akm_core::secret::Secret;

use crate::software::file::DurableFile;
use command::Duplicate;
use counter::{intend_counter, make_counter, remove_counter, with_counter};
use failure::Failure;
use session::{Handle, Tpm, no_randomness};
use state::{HeldRoot, InvalidState, State};
use template::{EccKey, EccRole, PcrBinding, RootRole};
use transport::Connect;
use wrapping::{Material, Wrapped, new_authorisation};

pub use spec::TpmSpec;
pub use wrapping::wrap;

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "element.tpm";

/// Longest file that is read or written, enough for about 40,000 roots.
const FILE_LENGTH_MAX: usize = 16 * 1024 * 1024;

/// Where the storage key is persistent: in the owner's range, and "AK" at its end.
pub const STORAGE_HANDLE: u32 = 0x8100_414b;

/// What is computed under two roots to see whether they are the same. It does not begin as the element
/// function does, so it is no value of that.
const SAME_ROOT: &[u8] = b"akm1 same root";

/// Makers of TPMs that are programs: libtpms (swtpm), Microsoft's simulator, and those of hypervisors.
const PROGRAMS: [&str; 5] = ["IBM", "MSFT", "VMW", "GOOG", "AMZN"];

/// A TPM 2.0 as a secure element.
///
/// The way to the TPM is opened at the first use and again after it was lost: a call that fails with
/// [`ElementError::Unavailable`] may be repeated.
pub struct TpmElement {
    tpm: Tpm,
    file: DurableFile,
    state: State,
    maker: Maker,
}

/// What a TPM says of itself.
struct Maker {
    manufacturer: String,
    firmware: String,
}

/// The TPMs of this machine, each as the text of an element.
pub fn list() -> Vec<String> {
    let mut numbers: Vec<u32> = std::fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("tpmrm")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let specs =
        numbers.iter().filter_map(|number| TpmSpec::device(Path::new(&format!("/dev/tpmrm{number}"))));
    specs.map(|spec| format!("tpm:{spec}")).collect()
}

impl TpmElement {
    /// Opens the element of an enrolled node, which must exist: file, storage key and counter.
    pub fn open(spec: &TpmSpec, state_dir: &Path) -> Result<Self, ElementError> {
        Self::open_by(Box::new(spec.place.clone()), spec, state_dir)
    }

    /// Opens the element, and makes what is missing. Killed at any point and repeated, it ends the same.
    pub fn create(spec: &TpmSpec, state_dir: &Path) -> Result<Self, ElementError> {
        Self::create_by(Box::new(spec.place.clone()), spec, state_dir)
    }

    /// What the TPM says of itself, without changing anything.
    pub fn describe(spec: &TpmSpec) -> Result<Description, ElementError> {
        Tpm::new(Box::new(spec.place.clone())).run(
            |_| Ok(()),
            |tpm| {
                check_hierarchies(tpm)?;
                let (handle, endorsement) = tpm.create_primary(EccRole::Endorsement)?;
                tpm.flush(handle)?;
                Ok(Maker::ask(tpm)?.description(&endorsement))
            },
        )
    }

    /// Throws away what this node has in the TPM (its counter) and on the disk (its file, without which the
    /// roots are gone). Repeating changes nothing. The storage key stays: it holds nothing, and another node
    /// may use it.
    pub fn discard(spec: &TpmSpec, state_dir: &Path) -> Result<(), ElementError> {
        Self::discard_by(Box::new(spec.place.clone()), state_dir)
    }

    fn open_by(connect: Box<dyn Connect>, spec: &TpmSpec, state_dir: &Path) -> Result<Self, ElementError> {
        let mut file = DurableFile::new(state_dir, FILE_NAME);
        let state = load(&mut file, spec)?;
        if !state.counter.is_made {
            return Err(ElementError::Unavailable(format!(
                "{} was not finished: repeat what made it (akm provision)",
                file.path().display()
            )));
        }
        Self::with(Tpm::new(connect), file, state)
    }

    fn with(mut tpm: Tpm, file: DurableFile, state: State) -> Result<Self, ElementError> {
        let maker = tpm.run(|tpm| check_storage(tpm, &state.storage), Maker::ask)?;
        Ok(Self { tpm, file, state, maker })
    }

    fn create_by(connect: Box<dyn Connect>, spec: &TpmSpec, state_dir: &Path) -> Result<Self, ElementError> {
        let mut tpm = Tpm::new(connect);
        let mut file = DurableFile::new(state_dir, FILE_NAME);
        let mut state = if file.exists()? {
            let state = load(&mut file, spec)?;
            tpm.run(
                |_| Ok(()),
                |tpm| {
                    if make_storage(tpm, Some(&state.storage))? == state.storage {
                        return Ok(());
                    }
                    Err(not_this_tpm().into())
                },
            )?;
            state
        } else {
            let state = tpm.run(
                |_| Ok(()),
                |tpm| {
                    check_hierarchies(tpm)?;
                    let storage = make_storage(tpm, None)?;
                    let (handle, endorsement) = tpm.create_primary(EccRole::Endorsement)?;
                    tpm.flush(handle)?;
                    let counter = intend_counter(tpm)?;
                    Ok(State { storage, endorsement, pcrs: spec.pcrs, counter, roots: BTreeMap::new() })
                },
            )?;
            // A counter is on the disk before it is in the TPM: so none is made twice, and none forgotten.
            file.create(&state.emit())?;
            state
        };
        while !state.counter.is_made {
            let is_ours = tpm.run(|_| Ok(()), |tpm| make_counter(tpm, &state))?;
            if is_ours {
                state.counter.is_made = true;
            } else {
                state.counter = tpm.run(|_| Ok(()), intend_counter)?;
            }
            file.replace(&state.emit(), FILE_LENGTH_MAX)?;
        }
        Self::with(tpm, file, state)
    }

    fn discard_by(connect: Box<dyn Connect>, state_dir: &Path) -> Result<(), ElementError> {
        let mut file = DurableFile::new(state_dir, FILE_NAME);
        if file.exists()? {
            let bytes = file.load(FILE_LENGTH_MAX)?;
            // Of a file that is damaged nothing is known that could be taken out of the TPM.
            if let Ok(state) = State::parse(&bytes) {
                let removed = Tpm::new(connect).run(|_| Ok(()), |tpm| remove_counter(tpm, &state));
                removed.map_err(|error| match error {
                    ElementError::Unavailable(why) => ElementError::Unavailable(format!(
                        "{why}; if the TPM is gone for good, remove {} by hand",
                        file.path().display()
                    )),
                    error => error,
                })?;
            }
        }
        file.remove()
    }

    /// Does some work with the TPM, which is checked first to be the right one where the way to it is new.
    fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Tpm, &State) -> Result<T, Failure>,
    ) -> Result<T, ElementError> {
        let state = &self.state;
        self.tpm.run(|tpm| check_storage(tpm, &state.storage), |tpm| work(tpm, state))
    }

    /// Makes a change on a copy, and the copy the state once it is durable.
    fn change(&mut self, edit: impl FnOnce(&mut State)) -> Result<(), ElementError> {
        let mut next = self.state.duplicate();
        edit(&mut next);
        let bytes = next.emit();
        if bytes.len() > FILE_LENGTH_MAX {
            return Err(ElementError::Full);
        }
        self.file.replace(&bytes, FILE_LENGTH_MAX)?;
        self.state = next;
        Ok(())
    }
}

fn load(file: &mut DurableFile, spec: &TpmSpec) -> Result<State, ElementError> {
    let bytes = file.load(FILE_LENGTH_MAX)?;
    let path = file.path().display();
    let state = State::parse(&bytes).map_err(|invalid| match invalid {
        InvalidState::Damaged => ElementError::Damaged(format!("{path} fails its own checks")),
        InvalidState::Format(format) => {
            ElementError::Refused(format!("{path} has format {format}, which this version does not know"))
        }
    })?;
    if state.pcrs != spec.pcrs {
        let made =
            if state.pcrs.is_empty() { "without pcrs=".into() } else { format!("with pcrs={}", state.pcrs) };
        return Err(ElementError::Refused(format!("{path} was made {made}: set the element to that")));
    }
    Ok(state)
}

fn storage_handle(storage: &EccKey) -> Handle {
    Handle::named(STORAGE_HANDLE, storage.name)
}

/// Whether the TPM is the one that the state belongs to.
fn check_storage(tpm: &mut Tpm, storage: &EccKey) -> Result<(), Failure> {
    match tpm.read_public(STORAGE_HANDLE)? {
        Some(public) if public == storage.public => Ok(()),
        _ => Err(not_this_tpm().into()),
    }
}

fn not_this_tpm() -> ElementError {
    ElementError::Damaged(
        "the TPM does not hold AKM's storage key of this node: it is another TPM, or it was cleared. If it is the \
         right one and was cleared, the roots are gone: provision the node again"
            .into(),
    )
}

fn check_hierarchies(tpm: &mut Tpm) -> Result<(), Failure> {
    let permanent = tpm.property(command::PROPERTY_PERMANENT)?.ok_or(Failure::Malformed)?;
    for (bit, name, letter) in [
        (command::PERMANENT_OWNER_AUTH, "owner", 'o'),
        (command::PERMANENT_ENDORSEMENT_AUTH, "endorsement", 'e'),
    ] {
        if permanent & bit != 0 {
            return Err(ElementError::Refused(format!(
                "the TPM's {name} hierarchy has a password, and AKM needs it without: tpm2_changeauth -c {name} -p \
                 OLD (or clear the TPM in the firmware, which erases all of -{letter})"
            ))
            .into());
        }
    }
    Ok(())
}

/// The storage key, made persistent if it is not there. Where the state `pinned` one, no other is made.
fn make_storage(tpm: &mut Tpm, pinned: Option<&EccKey>) -> Result<EccKey, Failure> {
    let present = tpm.read_public(STORAGE_HANDLE)?;
    let (handle, key) = tpm.create_primary(EccRole::Storage)?;
    match present {
        Some(present) if present != key.public => {
            return Err(ElementError::Refused(format!(
                "another program has a key of its own in the TPM under {STORAGE_HANDLE:#x}, where AKM's must be: \
                 remove it (tpm2_evictcontrol -C o -c {STORAGE_HANDLE:#x})"
            ))
            .into());
        }
        None if pinned.is_none_or(|pinned| *pinned == key) => {
            tpm.make_persistent(handle, key.name, STORAGE_HANDLE)?;
        }
        _ => {}
    }
    tpm.flush(handle)?;
    Ok(key)
}

/// The values of the PCRs that roots are bound to at this moment, if they are.
fn binding(tpm: &mut Tpm, state: &State) -> Result<Option<PcrBinding>, Failure> {
    if state.pcrs.is_empty() { Ok(None) } else { tpm.read_pcrs(state.pcrs).map(Some) }
}

/// HMAC-SHA-256 under a root, which is loaded for this and flushed.
fn compute(tpm: &mut Tpm, state: &State, held: &HeldRoot, message: &[u8]) -> Result<Secret<32>, Failure> {
    let mut session = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
    let key = tpm.load(storage_handle(&state.storage), &mut session, &held.private, &held.public)?;
    tpm.policy_of_root(&session, state.pcrs)?;
    let mac = tpm.hmac(key, &mut session, &held.authorisation, message)?;
    tpm.flush(key.number)?;
    Ok(mac)
}

/// Gets a wrapped root into the TPM, and out again as it is kept on the disk.
fn import(tpm: &mut Tpm, state: &State, wrapped: Wrapped) -> Result<HeldRoot, Failure> {
    let storage = storage_handle(&state.storage);
    let mut session = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
    let (number, endorsement) = tpm.create_primary(EccRole::Endorsement)?;
    if endorsement != state.endorsement {
        return Err(
            ElementError::Damaged("the TPM has another endorsement key than at enrolment".into()).into()
        );
    }
    let mut policy = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
    tpm.policy_of_endorsement(&policy)?;
    let inner_key = tpm
        .activate_credential(
            (storage, &mut session),
            (Handle::named(number, endorsement.name), &mut policy),
            &wrapped.credential,
            &wrapped.credential_secret,
        )
        .map_err(of_wrapped)?;
    tpm.flush(number)?;
    let object = Duplicate { public: &wrapped.public, duplicate: &wrapped.duplicate, seed: &wrapped.seed };
    let private = tpm.import(storage, &mut session, &inner_key, &object).map_err(of_wrapped)?;
    tpm.flush(session.handle)?;
    let authorisation = Secret::copy_from(&wrapped.authorisation[..]).expect("32 bytes are 32 bytes");
    Ok(HeldRoot { public: wrapped.public, private, authorisation })
}

/// What the TPM says of a wrapped root that it does not take.
fn of_wrapped(failure: Failure) -> Failure {
    match failure {
        Failure::Code { .. } => match ElementError::from(failure) {
            ElementError::Refused(_) | ElementError::Damaged(_) => not_for_this_tpm().into(),
            error => error.into(),
        },
        failure => failure,
    }
}

fn not_for_this_tpm() -> ElementError {
    ElementError::Refused("this root was not wrapped for this TPM, or was changed on the way".into())
}

impl Maker {
    /// A TPM with this endorsement key.
    fn description(&self, endorsement: &EccKey) -> Description {
        Description {
            kind: "tpm".into(),
            manufacturer: self.manufacturer.clone(),
            serial: endorsement.name.text(),
            firmware: self.firmware.clone(),
            protection: self.protection(),
            sealed: false,
            counter: true,
        }
    }

    fn ask(tpm: &mut Tpm) -> Result<Self, Failure> {
        let mut number = |property| tpm.property(property).map(Option::unwrap_or_default);
        let manufacturer = text(&[number(command::PROPERTY_MANUFACTURER)?]);
        let mut vendor = [0; 4];
        for (at, part) in vendor.iter_mut().enumerate() {
            *part = number(command::PROPERTY_VENDOR_FIRST + at as u32)?;
        }
        let (first, second) =
            (number(command::PROPERTY_FIRMWARE_FIRST)?, number(command::PROPERTY_FIRMWARE_SECOND)?);
        let version = format!("{}.{}.{}.{}", first >> 16, first & 0xffff, second >> 16, second & 0xffff);
        let firmware = format!("{} {version}", text(&vendor));
        Ok(Self {
            manufacturer: if manufacturer.is_empty() { "unknown".into() } else { manufacturer },
            firmware: firmware.trim_start().into(),
        })
    }

    fn protection(&self) -> Protection {
        if PROGRAMS.contains(&self.manufacturer.as_str()) {
            Protection::Software
        } else {
            Protection::Hardware
        }
    }
}

/// The printable characters of what a TPM says in words of four.
fn text(words: &[u32]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_be_bytes());
    let text: String = bytes.map(char::from).filter(|byte| byte.is_ascii_graphic() || *byte == ' ').collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl SecureElement for TpmElement {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        if context.len() > CONTEXT_LENGTH {
            return Err(ElementError::Refused(format!("a context has at most {CONTEXT_LENGTH} bytes")));
        }
        let mut message = Vec::with_capacity(4 + 32 + 1 + CONTEXT_LENGTH + 4);
        message.extend_from_slice(&1u32.to_be_bytes());
        message.extend_from_slice(label.as_bytes());
        message.push(0);
        message.extend_from_slice(context);
        message.extend_from_slice(&8192u32.to_be_bytes());
        if !self.state.roots.contains_key(&root) {
            return Err(ElementError::NoSuchRoot);
        }
        self.run(|tpm, state| compute(tpm, state, &state.roots[&root], &message))
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        if out.is_empty() {
            return Ok(());
        }
        self.run(|tpm, state| {
            let mut session = tpm.start_session(STORAGE_HANDLE, &state.storage)?;
            tpm.get_random(&mut session, out)
        })
    }
}

impl ProvisionableElement for TpmElement {
    /// The serial number is the name of the endorsement key.
    fn description(&self) -> Description {
        self.maker.description(&self.state.endorsement)
    }

    /// The public areas of storage key and endorsement key, and what the PCRs hold at this moment.
    fn prepare(&mut self) -> Result<Vec<u8>, ElementError> {
        let binding = self.run(binding)?;
        let State { storage, endorsement, .. } = &self.state;
        Ok(Material { storage: storage.clone(), endorsement: endorsement.clone(), binding }.emit())
    }

    fn make_device_key(&mut self) -> Result<(), ElementError> {
        if self.state.roots.contains_key(&Root::Device) {
            return Ok(());
        }
        let authorisation = new_authorisation().map_err(|error| no_randomness(&error))?;
        let (private, public) = self.run(|tpm, state| {
            let binding = binding(tpm, state)?;
            let template = RootRole::Device.public(binding.as_ref(), &[]);
            let mut session = tpm.start_policy(STORAGE_HANDLE, &state.storage)?;
            let storage = storage_handle(&state.storage);
            let (private, public) = tpm.create(storage, &mut session, &authorisation, &template)?;
            RootRole::Device.check(binding.as_ref(), &public)?;
            Ok((private, public))
        })?;
        self.change(|state| {
            state.roots.insert(Root::Device, HeldRoot { public, private, authorisation });
        })
    }

    /// Keeps a root that [`wrap`] made for this TPM: the host has not seen it.
    fn install(&mut self, root: Root, wrapped: &[u8]) -> Result<(), ElementError> {
        if root == Root::Device {
            let why = "the device key is made inside the element, never installed";
            return Err(ElementError::Refused(why.into()));
        }
        let wrapped = Wrapped::parse(wrapped).map_err(|_| not_for_this_tpm())?;
        if wrapped.name != root {
            return Err(ElementError::Refused("this root was wrapped for another relationship".into()));
        }
        let installed = self.run(|tpm, state| {
            let binding = binding(tpm, state)?;
            RootRole::Installed.check(binding.as_ref(), &wrapped.public).map_err(|_| {
                ElementError::Refused(match binding {
                    None => "this root was wrapped for another use than AKM's".into(),
                    Some(_) => format!(
                        "this root was not wrapped for what the PCRs {} hold at this moment: try again",
                        state.pcrs
                    ),
                })
            })?;
            let installed = import(tpm, state, wrapped)?;
            let mac = compute(tpm, state, &installed, SAME_ROOT)?;
            let Some(held) = state.roots.get(&root) else {
                return Ok(Some(installed));
            };
            if mac.equals(compute(tpm, state, held, SAME_ROOT)?.expose()) {
                return Ok(None);
            }
            let why = "it holds another root under this relationship and version";
            Err(ElementError::Refused(why.into()).into())
        })?;
        match installed {
            None => Ok(()),
            Some(installed) => self.change(|state| {
                state.roots.insert(root, installed);
            }),
        }
    }

    fn erase(&mut self, root: Root) -> Result<(), ElementError> {
        if !self.state.roots.contains_key(&root) {
            return Ok(());
        }
        self.change(|state| {
            state.roots.remove(&root);
        })
    }

    fn roots(&mut self) -> Result<Vec<Root>, ElementError> {
        Ok(self.state.roots.keys().copied().collect())
    }

    fn counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        Some(self)
    }
}

impl MonotonicCounter for TpmElement {
    fn value(&mut self) -> Result<u64, ElementError> {
        self.run(|tpm, state| {
            with_counter(tpm, state, |tpm, session, handle| {
                tpm.read_counter(session, handle, &state.counter.authorisation)
            })
        })
    }

    fn count_up(&mut self) -> Result<u64, ElementError> {
        self.run(|tpm, state| {
            with_counter(tpm, state, |tpm, session, handle| {
                tpm.increment(session, handle, &state.counter.authorisation)?;
                tpm.read_counter(session, handle, &state.counter.authorisation)
            })
        })
    }
}

impl fmt::Debug for TpmElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpmElement")
            .field("path", &self.file.path())
            .field("serial", &self.state.endorsement.name.text())
            .field("counter", &self.state.counter.index)
            .field("roots", &self.state.roots.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
