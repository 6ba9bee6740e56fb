//! The way to a card: a reader, by a part of its name.

use std::fmt;
use std::sync::Arc;

use akm_core::element::ElementError;
use zeroize::Zeroizing;

use super::CardSpec;
use super::applet::{Broken, Channel};
use super::pcsc::{Connection, Context, PcscError, code};

/// How often another program's reset, a restart of the service or a card put back is gone after in one call.
const ATTEMPTS: usize = 3;

/// Why there is no connection.
enum Trouble {
    Pcsc(PcscError),
    /// Already in the operator's words.
    Told(ElementError),
}

impl From<PcscError> for Trouble {
    fn from(error: PcscError) -> Self {
        Self::Pcsc(error)
    }
}

/// The card in a reader. It connects when it is first used, and again after a removal or a reset.
pub(super) struct CardReader {
    spec: CardSpec,
    context: Option<Arc<Context>>,
    connection: Option<Connection>,
    /// Full name of the reader, once it is known.
    name: Option<String>,
}

impl CardReader {
    pub(super) fn new(spec: &CardSpec) -> Self {
        Self { spec: spec.clone(), context: None, connection: None, name: None }
    }

    fn context(&mut self) -> Result<Arc<Context>, PcscError> {
        if let Some(context) = &self.context {
            return Ok(Arc::clone(context));
        }
        let context = Arc::new(Context::establish()?);
        self.context = Some(Arc::clone(&context));
        Ok(context)
    }

    /// The connection, made where there is none.
    fn connect(&mut self) -> Result<&mut Connection, Trouble> {
        if self.connection.is_none() {
            let context = self.context()?;
            let name = choose(&context.readers()?, self.spec.reader()).map_err(Trouble::Told)?;
            let connection = context.connect(&name);
            self.name = Some(name);
            self.connection = Some(connection?);
        }
        self.connection.as_mut().ok_or(Trouble::Pcsc(PcscError::Code(code::REMOVED_CARD)))
    }

    fn forget(&mut self) {
        self.connection = None;
        self.context = None;
    }

    fn broken(&mut self, error: &PcscError) -> Broken {
        self.forget();
        Broken(explain(error, &self.place()))
    }
}

impl Channel for CardReader {
    fn place(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.spec.reader().to_owned())
    }

    fn begin(&mut self) -> Result<(), ElementError> {
        let mut last = PcscError::Code(code::REMOVED_CARD);
        for _ in 0..ATTEMPTS {
            let begun = match self.connect() {
                Ok(connection) => connection.begin(),
                Err(Trouble::Told(error)) => return Err(error),
                Err(Trouble::Pcsc(error)) => Err(error),
            };
            let Err(error) = begun else { return Ok(()) };
            if error.is(code::RESET_CARD)
                && self.connection.as_mut().is_some_and(|connection| connection.reconnect().is_ok())
            {
                last = error;
                continue;
            }
            let was_connected = self.connection.is_some();
            self.forget();
            if !was_connected && !is_of_the_service(&error) {
                return Err(explain(&error, &self.place()));
            }
            last = error;
        }
        Err(explain(&last, &self.place()))
    }

    fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, Broken> {
        let Some(connection) = &mut self.connection else {
            return Err(self.broken(&PcscError::Code(code::REMOVED_CARD)));
        };
        let answer =
            if connection.is_t0() { by_t0(connection, command) } else { connection.transmit(command) };
        match answer {
            Ok(response) if response.len() >= 2 => Ok(response),
            Ok(_) => Err(self.broken(&PcscError::Code(code::INTERNAL_COMMUNICATION))),
            Err(error) => Err(self.broken(&error)),
        }
    }

    fn end(&mut self) {
        if let Some(connection) = &mut self.connection
            && connection.end().is_err()
        {
            self.forget();
        }
    }
}

/// With T=0 a command with data has no Le, a response to it is fetched, and a wrong Le is told.
fn by_t0(connection: &mut Connection, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, PcscError> {
    let has_data_and_le = command.len() > 5 && command.len() == 6 + usize::from(command[4]);
    let command = if has_data_and_le { &command[..command.len() - 1] } else { command };
    let response = connection.transmit(command)?;
    match response[..] {
        [0x6c, length] if command.len() <= 5 && command.len() >= 4 => {
            connection.transmit(&[&command[..4], &[length]].concat())
        }
        [0x61, length] => connection.transmit(&[0x00, 0xc0, 0x00, 0x00, length]),
        _ => Ok(response),
    }
}

/// The one reader that a text names: by its whole name, or by a part that no other has.
fn choose(names: &[String], wanted: &str) -> Result<String, ElementError> {
    if let Some(name) = names.iter().find(|name| *name == wanted) {
        return Ok(name.clone());
    }
    let matching: Vec<&String> = names.iter().filter(|name| name.contains(wanted)).collect();
    let refused = |why: String| Err(ElementError::Unavailable(why));
    match matching[..] {
        [name] => Ok(name.clone()),
        [] if names.is_empty() => {
            refused("there is no card reader: plug one in, and see that pcscd has its driver".into())
        }
        [] => {
            refused(format!("no card reader has {wanted:?} in its name; there is: {}", joined(names.iter())))
        }
        _ => refused(format!(
            "several card readers have {wanted:?} in their names: give more of one's: {}",
            joined(matching.into_iter())
        )),
    }
}

fn joined<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// The names of all readers here.
pub(super) fn readers() -> Result<Vec<String>, ElementError> {
    let names = Context::establish().and_then(|context| context.readers());
    names.map_err(|error| explain(&error, "the reader"))
}

fn is_of_the_service(error: &PcscError) -> bool {
    matches!(
        error,
        PcscError::Code(
            code::INVALID_HANDLE | code::SERVICE_STOPPED | code::INTERNAL_COMMUNICATION | code::NO_SERVICE
        )
    )
}

/// An error of PC/SC in the operator's words.
fn explain(error: &PcscError, reader: &str) -> ElementError {
    let code = match error {
        PcscError::Library(why) => {
            return ElementError::Unavailable(format!(
                "cards need the PC/SC library: apt-get install pcscd libpcsclite1 ({why})"
            ));
        }
        PcscError::Code(code) => *code,
    };
    let why = match code {
        code::NO_SERVICE | code::SERVICE_STOPPED => {
            "pcscd does not run: apt-get install pcscd, then systemctl start pcscd.socket".into()
        }
        code::SECURITY_VIOLATION => {
            "pcscd does not let this user use cards: allow it in polkit (org.debian.pcsc-lite), or use root"
                .into()
        }
        code::NO_SMARTCARD => format!("there is no card in {reader}: put it in"),
        code::REMOVED_CARD => format!("the card was removed from {reader}: put it back"),
        code::RESET_CARD => format!("another program keeps resetting the card in {reader}: stop it"),
        code::SHARING_VIOLATION => {
            format!("the card in {reader} is busy: another program keeps it for itself; end that one")
        }
        code::UNRESPONSIVE_CARD | code::UNPOWERED_CARD => {
            format!("the card in {reader} does not answer: put it in the right way round, or clean it")
        }
        code::PROTOCOL_MISMATCH => format!("the card in {reader} speaks neither T=0 nor T=1"),
        code::UNKNOWN_READER | code::READER_UNAVAILABLE | code::NO_READERS => {
            format!("{reader} is gone: plug it in again")
        }
        code::NOT_TRANSACTED | code::INTERNAL_COMMUNICATION => {
            format!("the card in {reader} broke off: see that it sits well")
        }
        code => format!("the card in {reader} cannot be used: PC/SC says {code:#010x}"),
    };
    ElementError::Unavailable(why)
}

impl fmt::Debug for CardReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CardReader")
            .field("spec", &self.spec)
            .field("is_connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_reader_is_chosen_by_its_name_or_a_part_that_is_its_alone() {
        let two = names(&["Swissbit Secure 00 00", "Virtual PCD 00 00"]);
        assert_eq!(choose(&two, "Swissbit"), Ok("Swissbit Secure 00 00".into()));
        let prefix = names(&["Reader 1", "Reader 12"]);
        assert_eq!(choose(&prefix, "Reader 1"), Ok("Reader 1".into()), "a whole name counts more");
        assert_eq!(choose(&prefix, "12"), Ok("Reader 12".into()));
    }

    #[test]
    fn none_and_several_are_told_with_what_there_is() {
        let says = |given: &[&str], wanted: &str| choose(&names(given), wanted).unwrap_err().to_string();
        assert!(says(&[], "x").contains("there is no card reader"));
        assert!(
            says(&["A", "B"], "x").ends_with("no card reader has \"x\" in its name; there is: \"A\", \"B\"")
        );
        assert!(says(&["A1", "A2", "B"], "A").ends_with("give more of one's: \"A1\", \"A2\""));
    }

    #[test]
    fn every_error_has_a_line_of_its_own_that_says_what_to_do() {
        let mut seen = Vec::new();
        for code in [
            code::NO_SERVICE,
            code::NO_SMARTCARD,
            code::REMOVED_CARD,
            code::RESET_CARD,
            code::SHARING_VIOLATION,
            code::UNRESPONSIVE_CARD,
            code::UNKNOWN_READER,
            code::SECURITY_VIOLATION,
            code::NOT_TRANSACTED,
            0x8010_0001,
        ] {
            let ElementError::Unavailable(why) = explain(&PcscError::Code(code), "Reader 1") else {
                panic!("{code:#x}");
            };
            assert!(!seen.contains(&why) && !why.contains('\n'), "{why}");
            seen.push(why);
        }
        let missing = explain(&PcscError::Library("not found".into()), "Reader 1").to_string();
        assert!(missing.contains("apt-get install pcscd libpcsclite1"), "{missing}");
    }
}
