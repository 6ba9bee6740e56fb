//! The commands that AKM gives to a TPM (TPM 2.0 Library Specification, part 3).

use akm_core::crypto::hash::sha256;
use akm_core::element::ElementError;
use akm_core::secret::Secret;
use zeroize::Zeroizing;

use super::failure::{self, Failure};
use super::session::{After, Auth, Command, Handle, Session, Tpm, nonce};
use super::spec::Pcrs;
use super::template::{
    ALG_AES, ALG_CFB, ALG_SHA256, EccKey, EccRole, Name, PcrBinding, pcr_selection, uses_of_storage,
};
use super::wire::{Reader, Writer};

pub(super) const OWNER: u32 = 0x4000_0001;
const NULL: u32 = 0x4000_0007;
const ENDORSEMENT: u32 = 0x4000_000b;

const LOADED_SESSIONS: u32 = 0x0200_0000;
const SAVED_SESSIONS: u32 = 0x0300_0000;
pub(super) const NV_INDICES: u32 = 0x0100_0000;
const TRANSIENT: u32 = 0x8000_0000;

const CAPABILITY_HANDLES: u32 = 1;
const CAPABILITY_PROPERTIES: u32 = 6;

pub(super) const PROPERTY_MANUFACTURER: u32 = 0x105;
pub(super) const PROPERTY_VENDOR_FIRST: u32 = 0x106;
pub(super) const PROPERTY_FIRMWARE_FIRST: u32 = 0x10b;
pub(super) const PROPERTY_FIRMWARE_SECOND: u32 = 0x10c;
pub(super) const PROPERTY_PERMANENT: u32 = 0x200;
pub(super) const PERMANENT_OWNER_AUTH: u32 = 1 << 0;
pub(super) const PERMANENT_ENDORSEMENT_AUTH: u32 = 1 << 1;

/// The longest that a TPM gives at a time: as SHA-256 is there, at least this.
const RANDOM_MAX: usize = 32;

const SESSION_HMAC: u8 = 0;
const SESSION_POLICY: u8 = 1;
const STARTUP_CLEAR: u16 = 0;

const fn command(code: u32, name: &'static str) -> Command {
    Command { code, name, encrypts: false, decrypts: false, opens: false }
}

const NV_UNDEFINE_SPACE: Command = command(0x122, "NV_UndefineSpace");
const EVICT_CONTROL: Command = command(0x120, "EvictControl");
const NV_DEFINE_SPACE: Command = Command { encrypts: true, ..command(0x12a, "NV_DefineSpace") };
const CREATE_PRIMARY: Command = Command { opens: true, ..command(0x131, "CreatePrimary") };
const NV_INCREMENT: Command = command(0x134, "NV_Increment");
const STARTUP: Command = command(0x144, "Startup");
const ACTIVATE_CREDENTIAL: Command =
    Command { encrypts: true, decrypts: true, ..command(0x147, "ActivateCredential") };
const NV_READ: Command = Command { decrypts: true, ..command(0x14e, "NV_Read") };
const POLICY_SECRET: Command = command(0x151, "PolicySecret");
const CREATE: Command = Command { encrypts: true, decrypts: true, ..command(0x153, "Create") };
const HMAC: Command = Command { encrypts: true, decrypts: true, ..command(0x155, "HMAC") };
const IMPORT: Command = Command { encrypts: true, decrypts: true, ..command(0x156, "Import") };
const LOAD: Command = Command { encrypts: true, decrypts: true, opens: true, ..command(0x157, "Load") };
const FLUSH_CONTEXT: Command = command(0x165, "FlushContext");
const NV_READ_PUBLIC: Command = command(0x169, "NV_ReadPublic");
const POLICY_AUTH_VALUE: Command = command(0x16b, "PolicyAuthValue");
const POLICY_COMMAND_CODE: Command = command(0x16c, "PolicyCommandCode");
const POLICY_OR: Command = command(0x171, "PolicyOR");
const READ_PUBLIC: Command = command(0x173, "ReadPublic");
const START_AUTH_SESSION: Command = Command { opens: true, ..command(0x176, "StartAuthSession") };
const GET_CAPABILITY: Command = command(0x17a, "GetCapability");
const GET_RANDOM: Command = Command { decrypts: true, ..command(0x17b, "GetRandom") };
const PCR_READ: Command = command(0x17e, "PCR_Read");
const POLICY_PCR: Command = command(0x17f, "PolicyPCR");

/// What an installed root came in, for `TPM2_Import`.
pub(super) struct Duplicate<'a> {
    pub(super) public: &'a [u8],
    pub(super) duplicate: &'a [u8],
    pub(super) seed: &'a [u8],
}

impl Tpm {
    /// Starts a TPM that nobody has started, and flushes what a program that was killed left in it.
    pub(super) fn clean(&mut self) -> Result<(), Failure> {
        let mut left = match self.handles(TRANSIENT) {
            Err(failure) if failure.is(failure::INITIALIZE) => {
                let mut parameters = Writer::new();
                parameters.u16(STARTUP_CLEAR);
                self.execute(&STARTUP, &[], &mut [], parameters)?;
                self.handles(TRANSIENT)?
            }
            left => left?,
        };
        left.extend(self.handles(LOADED_SESSIONS)?);
        left.extend(self.handles(SAVED_SESSIONS)?);
        left.into_iter().try_for_each(|handle| self.flush(handle))
    }

    /// The handles of the kind of `first`, from that on.
    pub(super) fn handles(&mut self, first: u32) -> Result<Vec<u32>, Failure> {
        let mut handles = Vec::new();
        let mut from = first;
        loop {
            let mut parameters = Writer::new();
            parameters.u32(CAPABILITY_HANDLES).u32(from).u32(64);
            let answer = self.execute(&GET_CAPABILITY, &[], &mut [], parameters)?;
            let mut reader = Reader::new(&answer.parameters);
            let (more, capability, count) = (reader.u8()?, reader.u32()?, reader.u32()?);
            if capability != CAPABILITY_HANDLES {
                return Err(Failure::Malformed);
            }
            for _ in 0..count {
                let handle = reader.u32()?;
                if handle < from || handle >> 24 != first >> 24 {
                    // Loaded sessions are of two kinds; no other capability mixes them.
                    if first != LOADED_SESSIONS && first != SAVED_SESSIONS {
                        return Err(Failure::Malformed);
                    }
                }
                handles.push(handle);
            }
            reader.end()?;
            match handles.last() {
                Some(last) if more != 0 && count > 0 && *last >= from => from = last + 1,
                _ => return Ok(handles),
            }
        }
    }

    /// A property; `None` if this TPM lacks it.
    pub(super) fn property(&mut self, property: u32) -> Result<Option<u32>, Failure> {
        let mut parameters = Writer::new();
        parameters.u32(CAPABILITY_PROPERTIES).u32(property).u32(1);
        let answer = self.execute(&GET_CAPABILITY, &[], &mut [], parameters)?;
        let mut reader = Reader::new(&answer.parameters);
        let (_, capability, count) = (reader.u8()?, reader.u32()?, reader.u32()?);
        if capability != CAPABILITY_PROPERTIES || count > 1 {
            return Err(Failure::Malformed);
        }
        let value = if count == 1 { Some((reader.u32()?, reader.u32()?)) } else { None };
        reader.end()?;
        Ok(value.filter(|(found, _)| *found == property).map(|(_, value)| value))
    }

    /// Flushes a transient object or a session.
    pub(super) fn flush(&mut self, handle: u32) -> Result<(), Failure> {
        let mut parameters = Writer::new();
        parameters.u32(handle);
        self.execute(&FLUSH_CONTEXT, &[], &mut [], parameters)?;
        self.closed(handle);
        Ok(())
    }

    /// The public area of an object; `None` if there is none under this handle.
    pub(super) fn read_public(&mut self, handle: u32) -> Result<Option<Vec<u8>>, Failure> {
        let answer = match self.execute(&READ_PUBLIC, &[Handle::plain(handle)], &mut [], Writer::new()) {
            Err(failure) if failure.is(failure::HANDLE) => return Ok(None),
            answer => answer?,
        };
        let mut reader = Reader::new(&answer.parameters);
        let public = reader.sized()?.to_vec();
        let (_, _) = (reader.sized()?, reader.sized()?);
        reader.end()?;
        Ok(Some(public))
    }

    /// Makes one of the two primary keys, transient: the same one each time.
    pub(super) fn create_primary(&mut self, role: EccRole) -> Result<(u32, EccKey), Failure> {
        let hierarchy = match role {
            EccRole::Storage => OWNER,
            EccRole::Endorsement => ENDORSEMENT,
        };
        let mut sensitive = Writer::new();
        sensitive.sized(&[]).sized(&[]);
        let mut parameters = Writer::new();
        parameters.sized(sensitive.as_slice()).sized(&role.template()).sized(&[]).u32(0);
        let answer =
            self.execute(&CREATE_PRIMARY, &[Handle::plain(hierarchy)], &mut [Auth::Empty], parameters)?;
        let key = role.parse(Reader::new(&answer.parameters).sized()?).map_err(|_| {
            ElementError::Refused("this TPM makes keys of another form than AKM asked for".into())
        })?;
        Ok((answer.handle, key))
    }

    /// Keeps a primary key of the owner under a persistent handle.
    pub(super) fn make_persistent(
        &mut self,
        object: u32,
        name: Name,
        persistent: u32,
    ) -> Result<(), Failure> {
        let mut parameters = Writer::new();
        parameters.u32(persistent);
        let handles = [Handle::plain(OWNER), Handle::named(object, name)];
        self.execute(&EVICT_CONTROL, &handles, &mut [Auth::Empty], parameters).map(drop)
    }

    /// Starts a session for authorisations, salted for a key of the TPM.
    pub(super) fn start_session(&mut self, handle: u32, key: &EccKey) -> Result<Session, Failure> {
        self.start(SESSION_HMAC, handle, key)
    }

    /// Starts a session for a policy, salted for a key of the TPM.
    pub(super) fn start_policy(&mut self, handle: u32, key: &EccKey) -> Result<Session, Failure> {
        self.start(SESSION_POLICY, handle, key)
    }

    fn start(&mut self, kind: u8, handle: u32, key: &EccKey) -> Result<Session, Failure> {
        let nonce_caller = nonce()?;
        let (salt, encrypted) = Self::salt(key)?;
        let mut parameters = Writer::new();
        parameters.sized(&nonce_caller).sized(&encrypted).u8(kind);
        parameters.u16(ALG_AES).u16(128).u16(ALG_CFB).u16(ALG_SHA256);
        let handles = [Handle::named(handle, key.name), Handle::plain(NULL)];
        let answer = self.execute(&START_AUTH_SESSION, &handles, &mut [], parameters)?;
        let mut reader = Reader::new(&answer.parameters);
        let nonce_tpm = reader.sized()?.try_into().map_err(|_| Failure::Malformed)?;
        reader.end()?;
        Ok(Session::new(answer.handle, &salt, nonce_tpm, &nonce_caller))
    }

    /// Lets a policy session pass for the endorsement hierarchy's.
    pub(super) fn policy_of_endorsement(&mut self, session: &Session) -> Result<(), Failure> {
        let mut parameters = Writer::new();
        parameters.sized(&[]).sized(&[]).sized(&[]).u32(0);
        let handles = [Handle::plain(ENDORSEMENT), Handle::plain(session.handle)];
        self.execute(&POLICY_SECRET, &handles, &mut [Auth::Empty], parameters).map(drop)
    }

    /// Lets a policy session pass for the storage key, for this one command.
    fn policy_of_storage(&mut self, session: &Session, command: &Command) -> Result<(), Failure> {
        self.policy_of_command(session, command)?;
        let uses = uses_of_storage();
        let mut parameters = Writer::new();
        parameters.u32(uses.len() as u32);
        for digest in &uses {
            parameters.sized(digest);
        }
        self.execute(&POLICY_OR, &[Handle::plain(session.handle)], &mut [], parameters).map(drop)
    }

    /// Lets a policy session pass for a root, for HMAC.
    pub(super) fn policy_of_root(&mut self, session: &Session, pcrs: Pcrs) -> Result<(), Failure> {
        let handle = [Handle::plain(session.handle)];
        if !pcrs.is_empty() {
            let mut parameters = Writer::new();
            parameters.sized(&[]).bytes(&pcr_selection(pcrs));
            self.execute(&POLICY_PCR, &handle, &mut [], parameters)?;
        }
        self.execute(&POLICY_AUTH_VALUE, &handle, &mut [], Writer::new())?;
        self.policy_of_command(session, &HMAC)
    }

    fn policy_of_command(&mut self, session: &Session, command: &Command) -> Result<(), Failure> {
        let mut parameters = Writer::new();
        parameters.u32(command.code);
        let handle = [Handle::plain(session.handle)];
        self.execute(&POLICY_COMMAND_CODE, &handle, &mut [], parameters).map(drop)
    }

    /// What the PCRs hold at this moment.
    pub(super) fn read_pcrs(&mut self, pcrs: Pcrs) -> Result<PcrBinding, Failure> {
        let mut left = pcrs;
        let mut values = Vec::new();
        while !left.is_empty() {
            let mut parameters = Writer::new();
            parameters.bytes(&pcr_selection(left));
            let answer = self.execute(&PCR_READ, &[], &mut [], parameters)?;
            let mut reader = Reader::new(&answer.parameters);
            let _update_counter = reader.u32()?;
            let mut given = Pcrs::default();
            for _ in 0..reader.u32()? {
                let (bank, length) = (reader.u16()?, reader.u8()?);
                let selected = reader.bytes(length.into())?;
                if bank == ALG_SHA256 {
                    given = Pcrs::from_bytes(selected.try_into().map_err(|_| Failure::Malformed)?);
                }
            }
            let count = reader.u32()?;
            for _ in 0..count {
                let value: [u8; 32] = reader.sized()?.try_into().map_err(|_| Failure::Malformed)?;
                values.extend_from_slice(&value);
            }
            reader.end()?;
            if given.is_empty() || !given.without(left).is_empty() {
                return Err(ElementError::Refused(format!(
                    "the TPM has no PCRs {left} with SHA-256: switch that bank on in the firmware, or leave pcrs= away"
                ))
                .into());
            }
            left = left.without(given);
        }
        Ok(PcrBinding { pcrs, digest: sha256(&[&values]) })
    }

    /// Makes an HMAC key under the storage key, in a policy session; returns its private and public area.
    pub(super) fn create(
        &mut self,
        storage: Handle,
        session: &mut Session,
        authorisation: &Secret<32>,
        template: &[u8],
    ) -> Result<(Vec<u8>, Vec<u8>), Failure> {
        let mut sensitive = Writer::new();
        sensitive.sized(authorisation.expose()).sized(&[]);
        let mut parameters = Writer::new();
        parameters.sized(sensitive.as_slice()).sized(template).sized(&[]).u32(0);
        self.policy_of_storage(session, &CREATE)?;
        let auths = &mut [Auth::Session(session, None, After::Continues)];
        let answer = self.execute(&CREATE, &[storage], auths, parameters)?;
        let mut reader = Reader::new(&answer.parameters);
        Ok((reader.sized()?.to_vec(), reader.sized()?.to_vec()))
    }

    /// Loads an object under the storage key, in a policy session.
    pub(super) fn load(
        &mut self,
        storage: Handle,
        session: &mut Session,
        private: &[u8],
        public: &[u8],
    ) -> Result<Handle, Failure> {
        let mut parameters = Writer::new();
        parameters.sized(private).sized(public);
        self.policy_of_storage(session, &LOAD)?;
        let auths = &mut [Auth::Session(session, None, After::Continues)];
        let answer = self.execute(&LOAD, &[storage], auths, parameters)?;
        let mut reader = Reader::new(&answer.parameters);
        let name = Name::of(public);
        if reader.sized()? != name.0 {
            return Err(Failure::Malformed);
        }
        reader.end()?;
        Ok(Handle::named(answer.handle, name))
    }

    /// Gets the secret that a credential holds: only if the storage key is beside the endorsement key in this
    /// TPM.
    pub(super) fn activate_credential(
        &mut self,
        storage: (Handle, &mut Session),
        endorsement: (Handle, &mut Session),
        credential: &[u8],
        secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut parameters = Writer::new();
        parameters.sized(credential).sized(secret);
        self.policy_of_storage(storage.1, &ACTIVATE_CREDENTIAL)?;
        let auths = &mut [
            Auth::Session(storage.1, None, After::Continues),
            Auth::Session(endorsement.1, None, After::Ends),
        ];
        let answer = self.execute(&ACTIVATE_CREDENTIAL, &[storage.0, endorsement.0], auths, parameters)?;
        let mut reader = Reader::new(&answer.parameters);
        let secret = Zeroizing::new(reader.sized()?.to_vec());
        reader.end()?;
        Ok(secret)
    }

    /// Takes a duplicated object under the storage key, in a policy session; returns its private area.
    pub(super) fn import(
        &mut self,
        storage: Handle,
        session: &mut Session,
        inner_key: &[u8],
        object: &Duplicate<'_>,
    ) -> Result<Vec<u8>, Failure> {
        let mut parameters = Writer::new();
        parameters.sized(inner_key).sized(object.public).sized(object.duplicate).sized(object.seed);
        parameters.u16(ALG_AES).u16(128).u16(ALG_CFB);
        self.policy_of_storage(session, &IMPORT)?;
        let auths = &mut [Auth::Session(session, None, After::Continues)];
        let answer = self.execute(&IMPORT, &[storage], auths, parameters)?;
        let mut reader = Reader::new(&answer.parameters);
        let private = reader.sized()?.to_vec();
        reader.end()?;
        Ok(private)
    }

    /// HMAC-SHA-256 of at most 1,024 bytes under a loaded key, in a policy session. Ends the session.
    pub(super) fn hmac(
        &mut self,
        key: Handle,
        session: &mut Session,
        authorisation: &Secret<32>,
        message: &[u8],
    ) -> Result<Secret<32>, Failure> {
        let mut parameters = Writer::new();
        parameters.sized(message).u16(ALG_SHA256);
        let auths = &mut [Auth::Session(session, Some(authorisation), After::Ends)];
        let answer = self.execute(&HMAC, &[key], auths, parameters)?;
        let mut reader = Reader::new(&answer.parameters);
        let mac = Secret::copy_from(reader.sized()?).ok_or(Failure::Malformed)?;
        reader.end()?;
        Ok(mac)
    }

    /// The public area of an NV index; `None` if there is none.
    pub(super) fn read_index(&mut self, index: u32) -> Result<Option<Vec<u8>>, Failure> {
        let answer = match self.execute(&NV_READ_PUBLIC, &[Handle::plain(index)], &mut [], Writer::new()) {
            Err(failure) if failure.is(failure::HANDLE) => return Ok(None),
            answer => answer?,
        };
        let mut reader = Reader::new(&answer.parameters);
        let public = reader.sized()?.to_vec();
        let _name = reader.sized()?;
        reader.end()?;
        Ok(Some(public))
    }

    /// Makes an NV index in the owner hierarchy.
    pub(super) fn define_index(
        &mut self,
        session: &mut Session,
        authorisation: &Secret<32>,
        public: &[u8],
    ) -> Result<(), Failure> {
        let mut parameters = Writer::new();
        parameters.sized(authorisation.expose()).sized(public);
        let auths = &mut [Auth::Session(session, None, After::Continues)];
        self.execute(&NV_DEFINE_SPACE, &[Handle::plain(OWNER)], auths, parameters).map(drop)
    }

    /// Removes an NV index of the owner hierarchy. Ends the session.
    pub(super) fn undefine_index(&mut self, session: &mut Session, index: Handle) -> Result<(), Failure> {
        let auths = &mut [Auth::Session(session, None, After::Ends)];
        self.execute(&NV_UNDEFINE_SPACE, &[Handle::plain(OWNER), index], auths, Writer::new()).map(drop)
    }

    /// Counts an NV counter up by one.
    pub(super) fn increment(
        &mut self,
        session: &mut Session,
        index: Handle,
        authorisation: &Secret<32>,
    ) -> Result<(), Failure> {
        let auths = &mut [Auth::Session(session, Some(authorisation), After::Continues)];
        self.execute(&NV_INCREMENT, &[index, index], auths, Writer::new()).map(drop)
    }

    /// Reads an NV counter.
    pub(super) fn read_counter(
        &mut self,
        session: &mut Session,
        index: Handle,
        authorisation: &Secret<32>,
    ) -> Result<u64, Failure> {
        let mut parameters = Writer::new();
        parameters.u16(8).u16(0);
        let auths = &mut [Auth::Session(session, Some(authorisation), After::Ends)];
        let answer = self.execute(&NV_READ, &[index, index], auths, parameters)?;
        let mut reader = Reader::new(&answer.parameters);
        let value = reader.sized()?.try_into().map_err(|_| Failure::Malformed)?;
        reader.end()?;
        Ok(u64::from_be_bytes(value))
    }

    /// Fills `out` from the TPM's generator.
    pub(super) fn get_random(&mut self, session: &mut Session, out: &mut [u8]) -> Result<(), Failure> {
        for part in out.chunks_mut(RANDOM_MAX) {
            let mut filled = 0;
            while filled < part.len() {
                let rest = &mut part[filled..];
                let mut parameters = Writer::new();
                parameters.u16(rest.len() as u16);
                let auths = &mut [Auth::Session(session, None, After::Continues)];
                let answer = self.execute(&GET_RANDOM, &[], auths, parameters)?;
                let mut reader = Reader::new(&answer.parameters);
                let bytes = reader.sized()?;
                reader.end()?;
                if bytes.is_empty() || bytes.len() > rest.len() {
                    return Err(Failure::Malformed);
                }
                rest[..bytes.len()].copy_from_slice(bytes);
                filled += bytes.len();
            }
        }
        Ok(())
    }
}
