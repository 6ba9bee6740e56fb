//! The applet (`docs/card.md`): commands, and what is stored.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::keys::StaticKeys;
use crate::memory::Memory;
pub use crate::memory::PowerLost;
use crate::scp03::{Channel, SHORT, decrypt_cbc};

/// Application identifier.
pub const AID: [u8; 6] = [0xf0, b'A', b'K', b'M', b'1', 0x01];

/// How this card names its maker, so that nobody takes it for one.
pub const MANUFACTURER: &str = "AKM simulated card";

/// Slots for roots.
pub const SLOTS: usize = 64;

const VERSION: [u8; 2] = [1, 0];
const PAGE: usize = 10;
const NAME: usize = 24;
const KEY: usize = 32;
const SEQUENCE_END: u32 = 0xff_ffff;

const MAGIC: &[u8; 8] = b"AKMCARD1";
const SERIAL_AT: usize = 8;
const SERIAL_MAX: usize = 32;
const NUMBERS_AT: [usize; 2] = [64, 80];
const SELECTOR_AT: usize = 96;
const SELECTORS: [u8; 2] = [0xa0, 0xb0];
/// The device key, then the roots.
const SLOTS_AT: usize = 128;
const SLOT: usize = 1 + NAME + KEY;

const FREE: u8 = 0x00;
const HELD: u8 = 0xa5;
const ERASING: u8 = 0x5a;

type Status = [u8; 2];
const DONE: Status = [0x90, 0x00];
const NOT_AUTHENTICATED: Status = [0x63, 0x00];
const MEMORY_FAILED: Status = [0x65, 0x81];
const WRONG_LENGTH: Status = [0x67, 0x00];
const NOT_SECURE: Status = [0x69, 0x82];
const CONDITIONS: Status = [0x69, 0x85];
const WRONG_DATA: Status = [0x6a, 0x80];
const FULL: Status = [0x6a, 0x84];
const WRONG_PARAMETERS: Status = [0x6a, 0x86];
const NOT_FOUND: Status = [0x6a, 0x88];
const ANOTHER_HELD: Status = [0x6a, 0x89];
const NO_INSTRUCTION: Status = [0x6d, 0x00];
const NO_CLASS: Status = [0x6e, 0x00];

/// Why a command is not done: with a status word, or because the card has no power.
enum Stop {
    Status(Status),
    Power(PowerLost),
}

impl From<PowerLost> for Stop {
    fn from(lost: PowerLost) -> Self {
        Self::Power(lost)
    }
}

impl From<Status> for Stop {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// A command, taken apart.
struct Command<'a> {
    header: [u8; 4],
    data: &'a [u8],
    /// How many bytes are wanted; `None` is all.
    expected: Option<usize>,
}

impl<'a> Command<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<4>()?;
        let wanted = |le: u8| (le != 0).then_some(usize::from(le));
        let (data, expected) = match rest {
            [] => (&[][..], None),
            [le] => (&[][..], wanted(*le)),
            [lc, rest @ ..] if *lc != 0 && rest.len() == usize::from(*lc) => (rest, None),
            [lc, data @ .., le] if *lc != 0 && data.len() == usize::from(*lc) => (data, wanted(*le)),
            _ => return None,
        };
        Some(Self { header: *header, data, expected })
    }
}

/// The applet.
pub struct Applet {
    memory: Memory,
    keys: StaticKeys,
    channel: Option<Channel>,
}

impl Applet {
    /// Bytes of its memory.
    pub const MEMORY: usize = SLOTS_AT + SLOT * (1 + SLOTS);

    /// The memory of an applet that was just installed. `None` if that cannot be a serial number.
    pub fn first_memory(serial: &str) -> Option<Vec<u8>> {
        let is_serial =
            (1..=SERIAL_MAX).contains(&serial.len()) && serial.bytes().all(|byte| byte.is_ascii_graphic());
        is_serial.then(|| {
            let mut bytes = vec![0; Self::MEMORY];
            bytes[..MAGIC.len()].copy_from_slice(MAGIC);
            bytes[SERIAL_AT] = serial.len() as u8;
            bytes[SERIAL_AT + 1..SERIAL_AT + 1 + serial.len()].copy_from_slice(serial.as_bytes());
            bytes[SELECTOR_AT] = SELECTORS[0];
            bytes
        })
    }

    /// An applet with what its memory holds. `None` if that is no applet's.
    pub fn new(memory: Memory, keys: StaticKeys) -> Option<Self> {
        let bytes = memory.bytes();
        let is_ours = bytes.len() == Self::MEMORY
            && bytes.starts_with(MAGIC)
            && (1..=SERIAL_MAX).contains(&usize::from(bytes[SERIAL_AT]))
            && SELECTORS.contains(&bytes[SELECTOR_AT]);
        is_ours.then_some(Self { memory, keys, channel: None })
    }

    /// The memory, for tests that look into it or take its power.
    pub fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// The serial number in a memory. `None` if that is no applet's.
    pub fn serial_in(memory: &[u8]) -> Option<String> {
        if memory.len() != Self::MEMORY || !memory.starts_with(MAGIC) {
            return None;
        }
        let length = Some(usize::from(memory[SERIAL_AT])).filter(|length| *length <= SERIAL_MAX)?;
        String::from_utf8(memory[SERIAL_AT + 1..][..length].to_vec()).ok()
    }

    fn serial(&self) -> &[u8] {
        let bytes = self.memory.bytes();
        &bytes[SERIAL_AT + 1..][..usize::from(bytes[SERIAL_AT])]
    }

    pub(crate) fn reset(&mut self) {
        self.channel = None;
    }

    /// SELECT: mends what a loss of power left, and answers with version and serial number.
    pub(crate) fn select(&mut self) -> Result<Vec<u8>, PowerLost> {
        self.channel = None;
        if self.memory.is_lost() {
            return Err(PowerLost);
        }
        for slot in 0..=SLOTS {
            let bytes = self.slot(slot);
            let is_clean = bytes[0] == HELD || bytes.iter().all(|byte| *byte == 0);
            if !is_clean {
                self.empty(slot)?;
            }
        }
        Ok([&VERSION, self.serial(), &DONE].concat())
    }

    /// One command, but SELECT.
    pub(crate) fn process(&mut self, command: &[u8]) -> Result<Vec<u8>, PowerLost> {
        if self.memory.is_lost() {
            return Err(PowerLost);
        }
        let Some(command) = Command::parse(command) else {
            self.channel = None;
            return Ok(WRONG_LENGTH.to_vec());
        };
        let done = match command.header[0] {
            0x80 => {
                self.channel = None;
                self.plain(&command)
            }
            0x84 => self.secured(&command),
            _ => Err(NO_CLASS.into()),
        };
        match done {
            Ok(mut response) => {
                if command.expected.is_some_and(|most| most < response.len()) {
                    return Ok(WRONG_LENGTH.to_vec());
                }
                response.extend_from_slice(&DONE);
                Ok(response)
            }
            Err(Stop::Status(status)) => {
                self.channel = None;
                Ok(status.to_vec())
            }
            Err(Stop::Power(lost)) => Err(lost),
        }
    }

    fn plain(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Stop> {
        let [_, instruction, p1, p2] = command.header;
        let data = command.data;
        match (instruction, p1, p2) {
            (0xca, _, _) => self.tell(p1, p2, data),
            (0x50, version, 0x00) => self.open_channel(version, data),
            (0x84, 0, 0) => {
                if !data.is_empty() {
                    return Err(WRONG_LENGTH.into());
                }
                random(command.expected.ok_or(WRONG_LENGTH)?)
            }
            (0x88, 0, 0) => self.derive(data),
            (0x46, 0, 0) => {
                if !data.is_empty() {
                    return Err(WRONG_LENGTH.into());
                }
                self.make_device_key()
            }
            (0x32, 0, 0) => self.count_to(data),
            (0xe4, 0, 0) => {
                let name = data.try_into().map_err(|_| WRONG_LENGTH)?;
                if let Some(slot) = self.find(name)? {
                    self.erase(slot)?;
                }
                Ok(Vec::new())
            }
            (0x84 | 0x88 | 0x46 | 0x32 | 0xe4 | 0x50, _, _) => Err(WRONG_PARAMETERS.into()),
            // Known, but only inside SCP03.
            (0x82 | 0xe2, _, _) => Err(NOT_SECURE.into()),
            _ => Err(NO_INSTRUCTION.into()),
        }
    }

    fn secured(&mut self, command: &Command<'_>) -> Result<Vec<u8>, Stop> {
        let [_, instruction, p1, p2] = command.header;
        match (instruction, p1, p2) {
            (0x82, 0x13 | 0x33, 0x00) => {
                let channel =
                    self.channel.as_mut().filter(|channel| !channel.is_authenticated()).ok_or(CONDITIONS)?;
                if command.data.len() != 2 * SHORT {
                    return Err(WRONG_LENGTH.into());
                }
                let cryptogram = channel.check_mac(&command.header, command.data).ok_or(NOT_SECURE)?;
                if !channel.authenticate(cryptogram) {
                    return Err(NOT_AUTHENTICATED.into());
                }
                Ok(Vec::new())
            }
            (0xe2, 0xa0, 0x00) => {
                let channel =
                    self.channel.as_mut().filter(|channel| channel.is_authenticated()).ok_or(NOT_SECURE)?;
                let encrypted = channel.check_mac(&command.header, command.data).ok_or(NOT_SECURE)?;
                let plain = channel.decrypt(encrypted).ok_or(WRONG_DATA)?;
                self.store(&plain)?;
                let channel = self.channel.as_ref().ok_or(NOT_SECURE)?;
                Ok(channel.response_mac(DONE).to_vec())
            }
            (0x82 | 0xe2, _, _) => Err(WRONG_PARAMETERS.into()),
            _ => Err(NO_INSTRUCTION.into()),
        }
    }

    fn tell(&self, p1: u8, p2: u8, data: &[u8]) -> Result<Vec<u8>, Stop> {
        if !data.is_empty() {
            return Err(WRONG_LENGTH.into());
        }
        match (p1, p2) {
            (0x01, 0x01) => Ok(VERSION.to_vec()),
            (0x01, 0x02) => Ok(MANUFACTURER.into()),
            (0x01, 0x03) => Ok(self.serial().to_vec()),
            (0x01, 0x04) => Ok(self.numbers().0.to_be_bytes().to_vec()),
            (0x01, 0x05) => {
                let free = (1..=SLOTS).filter(|slot| !self.holds(*slot)).count();
                Ok(vec![SLOTS as u8, free as u8, u8::from(self.holds(0))])
            }
            (0x01, 0x07) => {
                let sequence = self.numbers().1.to_be_bytes();
                Ok([&self.key_information()[..], &sequence[1..]].concat())
            }
            (0x02, page) if usize::from(page) < SLOTS.div_ceil(PAGE) => {
                let first = 1 + PAGE * usize::from(page);
                let names = (first..(first + PAGE).min(1 + SLOTS)).filter(|slot| self.holds(*slot));
                Ok(names.flat_map(|slot| &self.slot(slot)[1..1 + NAME]).copied().collect())
            }
            _ => Err(NOT_FOUND.into()),
        }
    }

    /// Key diversification data, key version, protocol and its options.
    fn key_information(&self) -> [u8; 13] {
        let mut information = [0; 13];
        information[..10].copy_from_slice(&Sha256::digest(self.serial())[..10]);
        information[10..].copy_from_slice(&[self.keys.version, 0x03, 0x70]);
        information
    }

    fn open_channel(&mut self, version: u8, host_challenge: &[u8]) -> Result<Vec<u8>, Stop> {
        if host_challenge.len() != SHORT {
            return Err(WRONG_LENGTH.into());
        }
        if version != 0 && version != self.keys.version {
            return Err(NOT_FOUND.into());
        }
        let (counter, sequence) = self.numbers();
        if sequence == SEQUENCE_END {
            return Err(CONDITIONS.into());
        }
        self.set_numbers(counter, sequence + 1)?;
        let [_, sequence @ ..] = sequence.to_be_bytes();
        let (channel, opening) = Channel::open(&self.keys, &AID, host_challenge, sequence);
        self.channel = Some(channel);
        Ok([&self.key_information()[..], &opening.card_challenge, &opening.card_cryptogram, &sequence]
            .concat())
    }

    fn derive(&self, data: &[u8]) -> Result<Vec<u8>, Stop> {
        let (name, rest) = data.split_first_chunk::<NAME>().ok_or(WRONG_LENGTH)?;
        let (length, rest) = rest.split_first().ok_or(WRONG_LENGTH)?;
        let (label, context) = rest.split_at_checked(usize::from(*length)).ok_or(WRONG_DATA)?;
        if !(1..=32).contains(&label.len()) || label.contains(&0) || context.len() > 32 {
            return Err(WRONG_DATA.into());
        }
        let slot = self.find(name)?.ok_or(NOT_FOUND)?;
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.slot(slot)[1 + NAME..]).expect("HMAC takes any key");
        for part in [&1u32.to_be_bytes()[..], label, &[0], context, &8192u32.to_be_bytes()] {
            mac.update(part);
        }
        Ok(mac.finalize().into_bytes().to_vec())
    }

    fn make_device_key(&mut self) -> Result<Vec<u8>, Stop> {
        if !self.holds(0) {
            let mut key = Zeroizing::new([0; KEY]);
            getrandom::fill(&mut *key).map_err(|_| MEMORY_FAILED)?;
            self.fill(0, &[0; NAME], &key[..])?;
        }
        Ok(Vec::new())
    }

    fn count_to(&mut self, data: &[u8]) -> Result<Vec<u8>, Stop> {
        let wanted = u64::from_be_bytes(data.try_into().map_err(|_| WRONG_LENGTH)?);
        let (counter, sequence) = self.numbers();
        if counter.checked_add(1) == Some(wanted) {
            self.set_numbers(wanted, sequence)?;
        } else if wanted != counter {
            return Err(CONDITIONS.into());
        }
        Ok(wanted.to_be_bytes().to_vec())
    }

    fn store(&mut self, plain: &[u8]) -> Result<(), Stop> {
        let (card, rest) = plain.split_first_chunk::<10>().ok_or(WRONG_DATA)?;
        let (name, wrapped) = rest.split_first_chunk::<NAME>().ok_or(WRONG_DATA)?;
        if card[..] != self.key_information()[..10] || wrapped.len() != KEY || name[..16] == [0; 16] {
            return Err(WRONG_DATA.into());
        }
        let key = decrypt_cbc(&self.keys.dek, &[0; 16], wrapped).ok_or(WRONG_DATA)?;
        if let Some(slot) = self.find(name)? {
            let is_same = bool::from(self.slot(slot)[1 + NAME..].ct_eq(&key));
            return if is_same { Ok(()) } else { Err(ANOTHER_HELD.into()) };
        }
        let free = (1..=SLOTS).find(|slot| !self.holds(*slot)).ok_or(FULL)?;
        self.fill(free, name, &key)?;
        Ok(())
    }

    /// The slot that holds this name.
    fn find(&self, name: &[u8; NAME]) -> Result<Option<usize>, Stop> {
        if name == &[0; NAME] {
            return Ok(self.holds(0).then_some(0));
        }
        if name[..16] == [0; 16] {
            return Err(WRONG_DATA.into());
        }
        Ok((1..=SLOTS).find(|slot| self.holds(*slot) && &self.slot(*slot)[1..1 + NAME] == name))
    }

    fn slot(&self, slot: usize) -> &[u8] {
        &self.memory.bytes()[SLOTS_AT + SLOT * slot..][..SLOT]
    }

    fn holds(&self, slot: usize) -> bool {
        self.slot(slot)[0] == HELD
    }

    fn fill(&mut self, slot: usize, name: &[u8; NAME], key: &[u8]) -> Result<(), PowerLost> {
        let at = SLOTS_AT + SLOT * slot;
        self.memory.write(at + 1, &Zeroizing::new([name, key].concat()))?;
        self.memory.write(at, &[HELD])
    }

    fn erase(&mut self, slot: usize) -> Result<(), PowerLost> {
        self.memory.write(SLOTS_AT + SLOT * slot, &[ERASING])?;
        self.empty(slot)
    }

    fn empty(&mut self, slot: usize) -> Result<(), PowerLost> {
        let at = SLOTS_AT + SLOT * slot;
        self.memory.write(at + 1, &[0; NAME + KEY])?;
        self.memory.write(at, &[FREE])
    }

    /// Counter and sequence counter.
    fn numbers(&self) -> (u64, u32) {
        let bytes = self.memory.bytes();
        let copy = usize::from(bytes[SELECTOR_AT] == SELECTORS[1]);
        let (counter, rest) = bytes[NUMBERS_AT[copy]..].split_first_chunk::<8>().expect("inside the memory");
        let (sequence, _) = rest.split_first_chunk::<4>().expect("inside the memory");
        (u64::from_be_bytes(*counter), u32::from_be_bytes(*sequence))
    }

    fn set_numbers(&mut self, counter: u64, sequence: u32) -> Result<(), PowerLost> {
        let other = usize::from(self.memory.bytes()[SELECTOR_AT] == SELECTORS[0]);
        let copy = [&counter.to_be_bytes()[..], &sequence.to_be_bytes()].concat();
        self.memory.write(NUMBERS_AT[other], &copy)?;
        self.memory.write(SELECTOR_AT, &[SELECTORS[other]])
    }
}

impl fmt::Debug for Applet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Applet").field("numbers", &self.numbers()).finish_non_exhaustive()
    }
}

fn random(length: usize) -> Result<Vec<u8>, Stop> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|_| MEMORY_FAILED)?;
    Ok(bytes)
}
