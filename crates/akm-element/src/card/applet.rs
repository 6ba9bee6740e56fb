//! The commands of the applet (`docs/card.md`) and what their status words mean.

use akm_core::element::{ElementError, ROOT_NAME_LENGTH, Root};
use akm_core::secret::Secret;
use zeroize::Zeroizing;

/// Application identifier.
pub(super) const AID: [u8; 6] = [0xf0, b'A', b'K', b'M', b'1', 0x01];

/// The label of the check in a script; no label of the protocol.
pub(super) const CHECK_LABEL: &[u8] = b"akm1 card";

/// Bytes of a root's name.
pub(super) const NAME: usize = ROOT_NAME_LENGTH;
/// Bytes of tag 0107: key diversification data, version, protocol, options, sequence counter.
pub(super) const KEY_INFORMATION: usize = 16;

const MAJOR: u8 = 1;
const PAGES: u8 = 7;
const PAGE: usize = 10;
const TEXT_MAX: usize = 32;
/// Longest draw in one command.
const RANDOM_MAX: usize = 255;

type Status = [u8; 2];
const DONE: Status = [0x90, 0x00];
const MEMORY_FAILED: Status = [0x65, 0x81];
const CONDITIONS: Status = [0x69, 0x85];
const FULL: Status = [0x6a, 0x84];
const NOT_FOUND: Status = [0x6a, 0x88];
const ANOTHER_HELD: Status = [0x6a, 0x89];

/// The card left in the middle: removed, reset, or the service went away.
#[derive(Debug)]
pub(super) struct Broken(pub(super) ElementError);

/// The way to a card.
pub(super) trait Channel: Send {
    /// Begins a sequence that no other program comes between, connecting (again) where needed.
    fn begin(&mut self) -> Result<(), ElementError>;

    /// Sends a command; the response has a status word at least.
    fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken>;

    /// Ends the sequence.
    fn end(&mut self);

    /// Where the card is, for messages.
    fn place(&self) -> String;
}

/// Why a sequence ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// To be tried again from the beginning.
    Broken(Broken),
    /// The answer.
    Element(ElementError),
}

impl From<Broken> for Failure {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<ElementError> for Failure {
    fn from(error: ElementError) -> Self {
        Self::Element(error)
    }
}

/// The version of an applet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) major: u8,
    pub(super) minor: u8,
}

/// A sequence of commands to the applet.
pub(super) struct Applet<'a> {
    channel: &'a mut dyn Channel,
}

impl<'a> Applet<'a> {
    /// Selects the applet; with its version and serial number.
    pub(super) fn select(channel: &'a mut dyn Channel) -> Result<(Self, Version, String), Failure> {
        let mut applet = Self { channel };
        let command = [&[0x00, 0xa4, 0x04, 0x00, AID.len() as u8], &AID[..], &[0x00]].concat();
        let (response, status) = applet.exchange(&command)?;
        let place = applet.channel.place();
        match status {
            DONE => {}
            MEMORY_FAILED => return Err(unexpected("SELECT", status).into()),
            _ => {
                return Err(ElementError::Unavailable(format!(
                    "the card in {place} is without the AKM applet: put in one that has it (SELECT: {})",
                    word(status)
                ))
                .into());
            }
        }
        let [major, minor, serial @ ..] = &response[..] else { return Err(malformed("SELECT").into()) };
        let version = Version { major: *major, minor: *minor };
        if version.major != MAJOR {
            return Err(ElementError::Refused(format!(
                "the AKM applet on the card in {place} has version {major}.{minor}, and this program knows {MAJOR}: \
                 use one that fits the other"
            ))
            .into());
        }
        let serial = text(serial).ok_or_else(|| malformed("SELECT"))?;
        Ok((applet, version, serial))
    }

    pub(super) fn manufacturer(&mut self) -> Result<String, Failure> {
        let response = self.get([0x01, 0x02])?;
        // A name may have spaces inside.
        let is_name = (1..=TEXT_MAX).contains(&response.len())
            && response.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
        let name = String::from_utf8(response.to_vec()).ok().filter(|_| is_name);
        Ok(name.ok_or_else(|| malformed("GET DATA"))?)
    }

    pub(super) fn counter(&mut self) -> Result<u64, Failure> {
        Ok(u64::from_be_bytes(array(&self.get([0x01, 0x04])?, "GET DATA")?))
    }

    /// Free slots, and whether there is a device key.
    pub(super) fn slots(&mut self) -> Result<(u8, bool), Failure> {
        match array(&self.get([0x01, 0x05])?, "GET DATA")? {
            [_, free, device @ (0 | 1)] => Ok((free, device == 1)),
            _ => Err(malformed("GET DATA").into()),
        }
    }

    pub(super) fn key_information(&mut self) -> Result<[u8; KEY_INFORMATION], Failure> {
        Ok(array(&self.get([0x01, 0x07])?, "GET DATA")?)
    }

    /// The roots, the device key too, in ascending order.
    pub(super) fn roots(&mut self) -> Result<Vec<Root>, Failure> {
        let mut roots = Vec::new();
        for page in 0..PAGES {
            let names = self.get([0x02, page])?;
            if !names.len().is_multiple_of(NAME) || names.len() > PAGE * NAME {
                return Err(malformed("GET DATA").into());
            }
            for name in names.chunks_exact(NAME) {
                roots.push(Root::of_name(name).ok_or_else(|| malformed("GET DATA"))?);
            }
        }
        if self.slots()?.1 {
            roots.push(Root::Device);
        }
        roots.sort_unstable();
        if !roots.is_sorted_by(|a, b| a < b) {
            return Err(malformed("GET DATA").into());
        }
        Ok(roots)
    }

    pub(super) fn derive(
        &mut self,
        name: Root,
        label: &[u8],
        context: &[u8],
    ) -> Result<Option<Secret<32>>, Failure> {
        let data = [&name.name()[..], &[label.len() as u8], label, context].concat();
        let (response, status) = self.exchange(&command([0x80, 0x88, 0x00, 0x00], &data, true))?;
        match status {
            DONE => Ok(Some(Secret::copy_from(&response).ok_or_else(|| malformed("F"))?)),
            NOT_FOUND => Ok(None),
            _ => Err(unexpected("F", status).into()),
        }
    }

    pub(super) fn random(&mut self, out: &mut [u8]) -> Result<(), Failure> {
        for part in out.chunks_mut(RANDOM_MAX) {
            let (response, status) = self.exchange(&[0x80, 0x84, 0x00, 0x00, part.len() as u8])?;
            if status != DONE {
                return Err(unexpected("GET CHALLENGE", status).into());
            }
            if response.len() != part.len() {
                return Err(malformed("GET CHALLENGE").into());
            }
            part.copy_from_slice(&response);
        }
        Ok(())
    }

    pub(super) fn make_device_key(&mut self) -> Result<(), Failure> {
        self.simple("GENERATE DEVICE KEY", &[0x80, 0x46, 0x00, 0x00])
    }

    pub(super) fn erase(&mut self, name: Root) -> Result<(), Failure> {
        self.simple("ERASE ROOT", &command([0x80, 0xe4, 0x00, 0x00], &name.name(), false))
    }

    /// Takes the counter to a value that is its own or the next. `None` if it is elsewhere.
    pub(super) fn count_to(&mut self, value: u64) -> Result<Option<()>, Failure> {
        let command = command([0x80, 0x32, 0x00, 0x00], &value.to_be_bytes(), true);
        let (response, status) = self.exchange(&command)?;
        match status {
            DONE if response[..] == value.to_be_bytes() => Ok(Some(())),
            DONE => Err(malformed("COUNT TO").into()),
            CONDITIONS => Ok(None),
            _ => Err(unexpected("COUNT TO", status).into()),
        }
    }

    /// A step of a script: its response with the status word, or why the card did not take it.
    pub(super) fn play(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let response = self.channel.transmit(command)?;
        let status = *response.last_chunk().ok_or_else(|| malformed("a step of its script"))?;
        match status {
            DONE => Ok(response),
            ANOTHER_HELD => Err(another_held().into()),
            _ => Err(unexpected("a step of its script", status).into()),
        }
    }

    fn get(&mut self, tag: [u8; 2]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let (response, status) = self.exchange(&[0x80, 0xca, tag[0], tag[1], 0x00])?;
        if status == DONE { Ok(response) } else { Err(unexpected("GET DATA", status).into()) }
    }

    fn simple(&mut self, what: &str, command: &[u8]) -> Result<(), Failure> {
        let (response, status) = self.exchange(command)?;
        match status {
            DONE if response.is_empty() => Ok(()),
            DONE => Err(malformed(what).into()),
            _ => Err(unexpected(what, status).into()),
        }
    }

    fn exchange(&mut self, command: &[u8]) -> Result<(Zeroizing<Vec<u8>>, Status), Failure> {
        let mut response = self.channel.transmit(command)?;
        let at = response.len().checked_sub(2).ok_or_else(|| malformed("a command"))?;
        let status = [response[at], response[at + 1]];
        response.truncate(at);
        Ok((response, status))
    }
}

fn command(header: [u8; 4], data: &[u8], has_response: bool) -> Vec<u8> {
    let length = u8::try_from(data.len()).expect("commands of AKM are short");
    let le: &[u8] = if has_response { &[0x00] } else { &[] };
    [&header[..], &[length], data, le].concat()
}

fn text(bytes: &[u8]) -> Option<String> {
    let is_text = (1..=TEXT_MAX).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    String::from_utf8(bytes.to_vec()).ok().filter(|_| is_text)
}

fn array<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N], ElementError> {
    bytes.try_into().map_err(|_| malformed(what))
}

fn word(status: Status) -> String {
    format!("{:02X}{:02X}", status[0], status[1])
}

pub(super) fn another_held() -> ElementError {
    ElementError::Refused("it holds another root under this relationship and version".into())
}

fn malformed(what: &str) -> ElementError {
    ElementError::Damaged(format!("the card's answer to {what} is not that of an AKM applet"))
}

fn unexpected(what: &str, status: Status) -> ElementError {
    match status {
        FULL => ElementError::Full,
        MEMORY_FAILED => ElementError::Damaged("the card's memory fails: use another card".into()),
        _ => ElementError::Refused(format!("the card answered {} to {what}", word(status))),
    }
}
