//! A card with the AKM applet as a secure element, by PC/SC.
//!
//! The applet is specified in `docs/card.md`. Roots go in by GlobalPlatform SCP03 under static keys that only the module
//! has, and none comes out. The module never speaks to the card: it makes a script, which the host plays.
//!
//! ```text
//!   module                               host                                    card
//!             <-- prepare: key information and sequence counter -- GET DATA
//!   wrap      --- script: 3 commands, each with its only right answer --> install plays it
//! ```
//!
//! Each call is one sequence that no other program comes between; it begins with SELECT, so neither another applet nor a
//! reset nor a removal in between matters. A sequence that breaks off is begun once more: all of them are repeatable. Nothing is
//! kept in the state directory.

mod applet;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod keys;
mod pcsc;
mod reader;
mod scp03;
mod script;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use akm_core::element::{
    Description, ElementError, Label, MonotonicCounter, Protection, ProvisionableElement, Root, SecureElement,
};
use akm_core::keys::CONTEXT_LENGTH;
use akm_core::secret::Secret;

use crate::{ElementSpec, InvalidElementSpec};
use applet::{Applet, Broken, CHECK_LABEL, Channel, Failure, Version, another_held};
pub use keys::{CardKeys, InvalidCardKeys};
use reader::CardReader;
pub use script::wrap;
use script::{Material, Script};

/// Longest name of a reader that PC/SC gives.
const READER_MAX: usize = 127;

/// How the card that is a program calls its maker (`testing/card`).
const SIMULATED: &str = "AKM simulated card";

/// A reader, by its name or a part of it that no other reader's name has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardSpec {
    reader: String,
}

impl CardSpec {
    /// The text to look for in the names of readers.
    pub fn reader(&self) -> &str {
        &self.reader
    }
}

impl FromStr for CardSpec {
    type Err = InvalidElementSpec;

    fn from_str(text: &str) -> Result<Self, InvalidElementSpec> {
        let malformed = |why: String| Err(InvalidElementSpec::Malformed { kind: "card", why });
        if text.is_empty() || text.len() > READER_MAX {
            return malformed(format!(
                "`card:` takes a part of a reader's name, of 1 to {READER_MAX} bytes, as in card:Swissbit"
            ));
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return malformed(format!(
                "{text:?} cannot be a part of a reader's name: it has a control character, or a space at an end"
            ));
        }
        Ok(Self { reader: text.to_owned() })
    }
}

impl fmt::Display for CardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reader)
    }
}

/// A card with the AKM applet as a secure element.
pub struct CardElement {
    channel: Box<dyn Channel>,
    description: Description,
    /// What the counter was to become by a call that failed without word of whether it did.
    uncertain: Option<u64>,
}

/// The readers at this machine; none where there is no PC/SC. Whether a card with the applet is in one,
/// [`CardElement::describe`] tells.
pub fn list() -> Vec<ElementSpec> {
    let names = reader::readers().unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).map(ElementSpec::Card).collect()
}

impl CardElement {
    /// Opens the element of an enrolled node, whose card has a device key.
    pub fn open(spec: &CardSpec, _state_dir: &Path) -> Result<Self, ElementError> {
        Self::connect(Box::new(CardReader::new(spec)))?.with_device_key()
    }

    /// Opens the element. On a card with the applet nothing is missing that could be made.
    pub fn create(spec: &CardSpec, _state_dir: &Path) -> Result<Self, ElementError> {
        Self::connect(Box::new(CardReader::new(spec)))
    }

    /// What the element says of itself, without changing anything.
    pub fn describe(spec: &CardSpec) -> Result<Description, ElementError> {
        Ok(Self::connect(Box::new(CardReader::new(spec)))?.description)
    }

    /// Erases all roots and the device key. The counter stays: it never goes back. Repeating changes nothing.
    pub fn discard(spec: &CardSpec, _state_dir: &Path) -> Result<(), ElementError> {
        Self::connect(Box::new(CardReader::new(spec)))?.erase_all()
    }

    fn connect(mut channel: Box<dyn Channel>) -> Result<Self, ElementError> {
        let (manufacturer, serial, version) = repeated(&mut *channel, |mut applet, version, serial| {
            Ok((applet.manufacturer()?, serial.to_owned(), version))
        })?;
        let description = Description {
            kind: "card".into(),
            serial,
            firmware: format!("AKM applet {}.{}", version.major, version.minor),
            protection: if manufacturer == SIMULATED { Protection::Software } else { Protection::Hardware },
            manufacturer,
            sealed: false,
            counter: true,
        };
        Ok(Self { channel, description, uncertain: None })
    }

    fn with_device_key(mut self) -> Result<Self, ElementError> {
        let (_, has_device_key) = self.sequence(|applet| applet.slots())?;
        if !has_device_key {
            return Err(ElementError::Unavailable(format!(
                "card {} in {} has no device key: it is not the card of this node, or was erased",
                self.description.serial,
                self.channel.place()
            )));
        }
        Ok(self)
    }

    fn erase_all(&mut self) -> Result<(), ElementError> {
        self.sequence(|applet| {
            for root in applet.roots()? {
                applet.erase(root)?;
            }
            Ok(())
        })
    }

    /// Runs commands on this card, which no other may have taken the place of.
    fn sequence<R>(
        &mut self,
        mut act: impl FnMut(&mut Applet<'_>) -> Result<R, Failure>,
    ) -> Result<R, ElementError> {
        let place = self.channel.place();
        let ours = &self.description.serial;
        repeated(&mut *self.channel, |mut applet, _, serial| {
            if serial != ours {
                return Err(ElementError::Unavailable(format!(
                    "card {serial} is in {place}, and this node's is card {ours}: put that one in"
                ))
                .into());
            }
            act(&mut applet)
        })
    }

    /// Brings a root in by its script. Whether it is there already is seen by the check, so nothing is sent then.
    fn play(applet: &mut Applet<'_>, root: Root, script: &Script<'_>) -> Result<(), Failure> {
        let is_held = |applet: &mut Applet<'_>| {
            let check = applet.derive(root, CHECK_LABEL, script.nonce)?;
            Ok::<_, Failure>(check.map(|check| check.equals(script.check)))
        };
        match is_held(applet)? {
            Some(true) => return Ok(()),
            Some(false) => return Err(another_held().into()),
            None => {}
        }
        let (free, _) = applet.slots()?;
        if free == 0 {
            return Err(ElementError::Full.into());
        }
        let keys = applet.key_information()?;
        if keys[..13] != script.keys[..13] {
            return Err(refused("the card's keys are not those that this root was wrapped for").into());
        }
        if keys != *script.keys {
            return Err(ElementError::Unavailable(
                "this root was wrapped for an earlier moment of the card: prepare and wrap it again".into(),
            )
            .into());
        }
        for (number, step) in script.steps.iter().enumerate() {
            let response = applet.play(step.command)?;
            if response[..] != *step.response {
                let why = match number {
                    0 => "the module has other keys than this card",
                    _ => "the card's answer is not authentic: do not use this card",
                };
                return Err(refused(why).into());
            }
        }
        match is_held(applet)? {
            Some(true) => Ok(()),
            _ => {
                Err(refused("the card took another root than the module wrapped: do not use this card")
                    .into())
            }
        }
    }
}

fn refused(why: &str) -> ElementError {
    ElementError::Refused(why.into())
}

/// Runs a sequence that begins with SELECT, and once more if it broke off.
fn repeated<R>(
    channel: &mut dyn Channel,
    mut act: impl FnMut(Applet<'_>, Version, &str) -> Result<R, Failure>,
) -> Result<R, ElementError> {
    let mut is_second = false;
    loop {
        channel.begin()?;
        let done =
            Applet::select(channel).and_then(|(applet, version, serial)| act(applet, version, &serial));
        channel.end();
        match done {
            Ok(result) => return Ok(result),
            Err(Failure::Element(error)) => return Err(error),
            Err(Failure::Broken(Broken(error))) if is_second => return Err(error),
            Err(Failure::Broken(_)) => is_second = true,
        }
    }
}

impl SecureElement for CardElement {
    fn derive(&mut self, root: Root, label: Label, context: &[u8]) -> Result<Secret<32>, ElementError> {
        if context.len() > CONTEXT_LENGTH {
            return Err(ElementError::Refused(format!("a context has at most {CONTEXT_LENGTH} bytes")));
        }
        self.sequence(|applet| applet.derive(root, label.as_bytes(), context))?
            .ok_or(ElementError::NoSuchRoot)
    }

    fn random(&mut self, out: &mut [u8]) -> Result<(), ElementError> {
        if out.is_empty() {
            return Ok(());
        }
        self.sequence(|applet| applet.random(out))
    }
}

impl ProvisionableElement for CardElement {
    fn description(&self) -> Description {
        self.description.clone()
    }

    /// The card's key information and the sequence counter of its next channel. Nothing changes on the card.
    fn prepare(&mut self) -> Result<Vec<u8>, ElementError> {
        let keys = self.sequence(|applet| applet.key_information())?;
        Ok(Material { serial: &self.description.serial, keys: &keys }.emit())
    }

    fn make_device_key(&mut self) -> Result<(), ElementError> {
        self.sequence(|applet| applet.make_device_key())
    }

    /// Plays the script that [`wrap`] made. Played once: where it was cut off before the root was stored, it takes another.
    fn install(&mut self, root: Root, wrapped: &[u8]) -> Result<(), ElementError> {
        if root == Root::Device {
            return Err(refused("the device key is made inside the element, never installed"));
        }
        let script = Script::parse(wrapped).ok_or_else(|| refused("this is no script for a card"))?;
        if script.name[..] != root.name() {
            return Err(refused("this root was wrapped under another name"));
        }
        if script.serial != self.description.serial {
            return Err(ElementError::Refused(format!(
                "this root was wrapped for card {}, and this is card {}",
                script.serial, self.description.serial
            )));
        }
        self.sequence(|applet| Self::play(applet, root, &script))
    }

    fn erase(&mut self, root: Root) -> Result<(), ElementError> {
        self.sequence(|applet| applet.erase(root))
    }

    fn roots(&mut self) -> Result<Vec<Root>, ElementError> {
        self.sequence(|applet| applet.roots())
    }

    fn counter(&mut self) -> Option<&mut dyn MonotonicCounter> {
        Some(self)
    }
}

impl MonotonicCounter for CardElement {
    fn value(&mut self) -> Result<u64, ElementError> {
        let value = self.sequence(|applet| applet.counter())?;
        self.uncertain = None;
        Ok(value)
    }

    /// Counts by naming the next value, so that an answer that was lost never counts twice: not inside this call, nor
    /// when a call that failed is made again.
    fn count_up(&mut self) -> Result<u64, ElementError> {
        let wanted = match self.uncertain {
            Some(wanted) => wanted,
            None => self
                .value()?
                .checked_add(1)
                .ok_or_else(|| ElementError::Refused("the counter is used up".into()))?,
        };
        self.uncertain = Some(wanted);
        let counted = self.sequence(|applet| applet.count_to(wanted))?;
        self.uncertain = None;
        match counted {
            Some(()) => Ok(wanted),
            None => Err(ElementError::Unavailable(
                "another program uses the counter of this card: end that one, then try again".into(),
            )),
        }
    }
}

impl fmt::Debug for CardElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardElement")
            .field("place", &self.channel.place())
            .field("serial", &self.description.serial)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
