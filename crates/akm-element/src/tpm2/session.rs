//! A TPM that is reached when it is needed, and the sessions under which it is asked: salted for AKM's storage
//! key, so that nobody between learns or changes what is secret.

use std::time::Duration;

use akm_core::crypto::hash::{hmac_sha256, sha256};
use akm_core::element::ElementError;
use akm_core::secret::Secret;
use zeroize::Zeroizing;

use super::crypto::{self, kdf_a};
use super::failure::{Failure, asks_again};
use super::template::{EccKey, Name};
use super::transport::{Connect, HEADER_LENGTH, Transport};
use super::wire::{Reader, Writer};

const TAG_NO_SESSIONS: u16 = 0x8001;
const TAG_SESSIONS: u16 = 0x8002;

/// The session that every TPM has: a plain password. Used with an empty one only.
const PASSWORD_SESSION: u32 = 0x4000_0009;

const CONTINUE: u8 = 1 << 0;
const DECRYPT: u8 = 1 << 5;
const ENCRYPT: u8 = 1 << 6;

/// How often a TPM that asks for the same command again gets it; the waits between add up to about 20 s.
const REPEATS: u32 = 24;
const WAIT_FIRST: Duration = Duration::from_millis(5);
const WAIT_LAST: Duration = Duration::from_secs(1);

/// One of the commands that AKM uses.
pub(super) struct Command {
    pub(super) code: u32,
    pub(super) name: &'static str,
    /// Whether the first parameter is encrypted on the way there.
    pub(super) encrypts: bool,
    /// Whether the first parameter of the answer is encrypted on the way back.
    pub(super) decrypts: bool,
    /// Whether the answer begins with a handle, which is then open.
    pub(super) opens: bool,
}

/// Something in the TPM, with its name where it has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handle {
    pub(super) number: u32,
    name: Option<Name>,
}

impl Handle {
    /// A hierarchy or a session: its name is its number.
    pub(super) fn plain(number: u32) -> Self {
        Self { number, name: None }
    }

    pub(super) fn named(number: u32, name: Name) -> Self {
        Self { number, name: Some(name) }
    }

    fn name(&self) -> Vec<u8> {
        match self.name {
            Some(name) => name.0.to_vec(),
            None => self.number.to_be_bytes().to_vec(),
        }
    }
}

/// How the use of a handle is permitted.
pub(super) enum Auth<'a> {
    /// By the empty password.
    Empty,
    /// Under a session, with the authorisation of the handle where the session takes it into account.
    Session(&'a mut Session, Option<&'a Secret<32>>, After),
}

/// What becomes of a session after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Continues,
    Ends,
}

/// A session, salted.
pub(super) struct Session {
    pub(super) handle: u32,
    key: Secret<32>,
    nonce_tpm: [u8; 32],
}

impl Session {
    /// From what both sides said at the start.
    pub(super) fn new(handle: u32, salt: &Secret<32>, nonce_tpm: [u8; 32], nonce_caller: &[u8; 32]) -> Self {
        let key = kdf_a(salt.expose(), b"ATH", &nonce_tpm, nonce_caller);
        Self { handle, key, nonce_tpm }
    }

    /// The key for HMAC and encryption: that of the session, and the authorisation.
    fn key_with(&self, authorisation: Option<&Secret<32>>) -> Zeroizing<Vec<u8>> {
        let mut key = Zeroizing::new(Vec::with_capacity(64));
        key.extend_from_slice(self.key.expose());
        if let Some(authorisation) = authorisation {
            key.extend_from_slice(authorisation.expose());
        }
        key
    }
}

/// Key and first block for a parameter.
fn parameter_key(key: &[u8], newer: &[u8; 32], older: &[u8; 32]) -> (Secret<16>, [u8; 16]) {
    let both: Secret<32> = kdf_a(key, b"CFB", newer, older);
    let (key, iv) = both.expose().split_at(16);
    (Secret::fill(|out| out.copy_from_slice(key)), iv.try_into().expect("the other half"))
}

/// The bytes of the first parameter, after its length.
fn first_parameter(parameters: &mut [u8]) -> Result<&mut [u8], Failure> {
    let length = Reader::new(parameters).u16()?;
    parameters.get_mut(2..2 + usize::from(length)).ok_or(Failure::Malformed)
}

/// What a TPM answered.
pub(super) struct Answer {
    pub(super) handle: u32,
    pub(super) parameters: Zeroizing<Vec<u8>>,
}

/// A TPM. The way to it is opened when it is needed, and again after it was lost.
pub(super) struct Tpm {
    connect: Box<dyn Connect>,
    pub(super) transport: Option<Box<dyn Transport>>,
    /// Transient objects and sessions that are in the TPM for this program.
    pub(super) open: Vec<u32>,
}

impl Tpm {
    pub(super) fn new(connect: Box<dyn Connect>) -> Self {
        Self { connect, transport: None, open: Vec::new() }
    }

    /// Does some work with the TPM; whatever comes of it, nothing is left behind in the TPM. `check` is done
    /// first on each new way to it.
    pub(super) fn run<T>(
        &mut self,
        check: impl FnOnce(&mut Self) -> Result<(), Failure>,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, ElementError> {
        let done = self.connected(check).and_then(|()| work(self));
        self.settle();
        Ok(done?)
    }

    fn connected(&mut self, check: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<(), Failure> {
        if self.transport.is_some() {
            return Ok(());
        }
        self.transport = Some(self.connect.connect()?);
        let checked = if self.connect.is_raw() { self.clean() } else { Ok(()) }.and_then(|()| check(self));
        if checked.is_err() {
            self.settle();
            self.disconnect();
        }
        checked
    }

    fn disconnect(&mut self) {
        self.transport = None;
        self.open.clear();
    }

    /// Flushes what is still open. What cannot be flushed is left to the next way to the TPM, which begins with
    /// that.
    fn settle(&mut self) {
        while let Some(handle) = self.open.pop() {
            if self.flush(handle).is_err() {
                self.disconnect();
            }
        }
    }

    /// Forgets a handle that the TPM no longer has.
    pub(super) fn closed(&mut self, handle: u32) {
        self.open.retain(|open| *open != handle);
    }

    /// Starts a session with this key of the TPM.
    pub(super) fn salt(key: &EccKey) -> Result<(Secret<32>, Vec<u8>), Failure> {
        crypto::share(&key.point, b"SECRET")
            .map_err(|_| ElementError::Damaged("the TPM's storage key is no point of P-256".into()).into())
    }

    /// Asks the TPM. The first session among `auths` also encrypts what the command says is secret.
    pub(super) fn execute(
        &mut self,
        command: &Command,
        handles: &[Handle],
        auths: &mut [Auth<'_>],
        parameters: Writer,
    ) -> Result<Answer, Failure> {
        let done = self.try_execute(command, handles, auths, parameters);
        if matches!(done, Err(Failure::Lost(_) | Failure::Malformed | Failure::NotAuthentic)) {
            self.disconnect();
        }
        done
    }

    fn try_execute(
        &mut self,
        command: &Command,
        handles: &[Handle],
        auths: &mut [Auth<'_>],
        mut parameters: Writer,
    ) -> Result<Answer, Failure> {
        let nonces = auths.iter().map(|_| nonce()).collect::<Result<Vec<[u8; 32]>, _>>()?;
        let cipher = auths.iter().position(|auth| matches!(auth, Auth::Session(..)));
        if let (true, Some(at)) = (command.encrypts, cipher)
            && let Auth::Session(session, authorisation, _) = &auths[at]
        {
            let key = session.key_with(*authorisation);
            let (key, iv) = parameter_key(&key, &nonces[at], &session.nonce_tpm);
            crypto::encrypt(&key, iv, first_parameter(parameters.as_mut_slice())?);
        }

        let mut frame = Writer::new();
        frame.u16(if auths.is_empty() { TAG_NO_SESSIONS } else { TAG_SESSIONS });
        frame.u32(0).u32(command.code);
        for handle in handles {
            frame.u32(handle.number);
        }
        if !auths.is_empty() {
            let names: Vec<u8> = handles.iter().flat_map(Handle::name).collect();
            let hash = sha256(&[&command.code.to_be_bytes(), &names, parameters.as_slice()]);
            let mut area = Writer::new();
            for (at, auth) in auths.iter().enumerate() {
                match auth {
                    Auth::Empty => {
                        area.u32(PASSWORD_SESSION).sized(&[]).u8(0).sized(&[]);
                    }
                    Auth::Session(session, authorisation, after) => {
                        let attributes = attributes(command, cipher == Some(at), *after);
                        let key = session.key_with(*authorisation);
                        let mac = hmac_sha256(&key, &[&hash, &nonces[at], &session.nonce_tpm, &[attributes]]);
                        area.u32(session.handle).sized(&nonces[at]).u8(attributes).sized(mac.expose());
                    }
                }
            }
            frame.u32(area.as_slice().len() as u32).bytes(area.as_slice());
        }
        frame.bytes(parameters.as_slice());
        let length = frame.as_slice().len() as u32;
        frame.as_mut_slice()[2..6].copy_from_slice(&length.to_be_bytes());

        let bytes = self.exchange(command, frame.as_slice())?;
        self.read(command, auths, &nonces, cipher, &bytes)
    }

    /// Sends a command, again and again where the TPM asks for that, and returns an answer that is no refusal.
    fn exchange(&mut self, command: &Command, frame: &[u8]) -> Result<Vec<u8>, Failure> {
        let transport =
            self.transport.as_mut().ok_or_else(|| Failure::Lost("the TPM was lost: try again".into()))?;
        let mut wait = WAIT_FIRST;
        for repeat in 0.. {
            let answer = transport.exchange(frame)?;
            let mut reader = Reader::new(&answer);
            let (_, length, code) = (reader.u16()?, reader.u32()?, reader.u32()?);
            if length as usize != answer.len() {
                return Err(Failure::Malformed);
            }
            if code == 0 {
                return Ok(answer);
            }
            if !asks_again(code) || repeat == REPEATS {
                return Err(Failure::Code { command: command.name, code });
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(WAIT_LAST);
        }
        unreachable!("the last repeat returns")
    }

    fn read(
        &mut self,
        command: &Command,
        auths: &mut [Auth<'_>],
        nonces: &[[u8; 32]],
        cipher: Option<usize>,
        bytes: &[u8],
    ) -> Result<Answer, Failure> {
        let tag = if auths.is_empty() { TAG_NO_SESSIONS } else { TAG_SESSIONS };
        let mut reader = Reader::new(bytes);
        if reader.u16()? != tag {
            return Err(Failure::Malformed);
        }
        reader.bytes(HEADER_LENGTH - 2)?;
        let handle = if command.opens { reader.u32()? } else { 0 };
        if command.opens {
            self.open.push(handle);
        }
        if auths.is_empty() {
            let rest = bytes.len() - HEADER_LENGTH - if command.opens { 4 } else { 0 };
            return Ok(Answer { handle, parameters: Zeroizing::new(reader.bytes(rest)?.to_vec()) });
        }
        let length = reader.u32()? as usize;
        let mut parameters = Zeroizing::new(reader.bytes(length)?.to_vec());
        let hash = sha256(&[&0u32.to_be_bytes(), &command.code.to_be_bytes(), &parameters]);
        for (at, auth) in auths.iter_mut().enumerate() {
            let (nonce_tpm, attributes, mac) = (reader.sized()?, reader.u8()?, reader.sized()?);
            let Auth::Session(session, authorisation, after) = auth else {
                continue;
            };
            let nonce_tpm: [u8; 32] = nonce_tpm.try_into().map_err(|_| Failure::Malformed)?;
            let key = session.key_with(*authorisation);
            let expected = hmac_sha256(&key, &[&hash, &nonce_tpm, &nonces[at], &[attributes]]);
            if !expected.equals(mac) {
                return Err(Failure::NotAuthentic);
            }
            session.nonce_tpm = nonce_tpm;
            if *after == After::Ends {
                self.open.retain(|open| *open != session.handle);
            }
            if command.decrypts && cipher == Some(at) {
                let (key, iv) = parameter_key(&key, &nonce_tpm, &nonces[at]);
                crypto::decrypt(&key, iv, first_parameter(&mut parameters)?);
            }
        }
        reader.end()?;
        Ok(Answer { handle, parameters })
    }
}

fn attributes(command: &Command, is_cipher: bool, after: After) -> u8 {
    let mut attributes = if after == After::Continues { CONTINUE } else { 0 };
    if is_cipher && command.encrypts {
        attributes |= DECRYPT;
    }
    if is_cipher && command.decrypts {
        attributes |= ENCRYPT;
    }
    attributes
}

/// 32 bytes that are used once.
pub(super) fn nonce() -> Result<[u8; 32], ElementError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| no_randomness(&error))?;
    Ok(nonce)
}

pub(super) fn no_randomness(error: &getrandom::Error) -> ElementError {
    ElementError::Unavailable(format!("the system gives no random bytes: {error}"))
}
