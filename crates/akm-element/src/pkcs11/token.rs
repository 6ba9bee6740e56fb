//! The way to one token: found by its spec, opened with its PIN, opened again when the session got lost.

use std::collections::BTreeMap;

use akm_core::element::{Description, ElementError, Root};
use cryptoki::context::Pkcs11;
use cryptoki::error::RvError;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::ObjectHandle;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;

use super::failure::{Doing, Failure};
use super::module;
use super::spec::Pkcs11Spec;
use crate::software::read_passphrase;

/// A token, with a session on it while that lasts.
pub(super) struct Token {
    spec: Pkcs11Spec,
    connection: Option<Connection>,
    /// What it said of itself first: another that is put in its place is not taken for it.
    description: Option<Description>,
    /// What came of a wrong PIN, which is not tried again: each try is one less.
    wrong_pin: Option<ElementError>,
}

/// A session on a token, logged in.
pub(super) struct Connection {
    library: Pkcs11,
    slot: Slot,
    pub(super) session: Session,
    /// The objects of the roots that were used in this session.
    pub(super) known: BTreeMap<Root, ObjectHandle>,
    pub(super) description: Description,
    /// Bits of the largest RSA key that it makes, as far as it says.
    pub(super) largest_rsa: usize,
}

impl Token {
    /// Names the token; touches nothing.
    pub(super) fn new(spec: &Pkcs11Spec) -> Self {
        Self { spec: spec.clone(), connection: None, description: None, wrong_pin: None }
    }

    pub(super) fn spec(&self) -> &Pkcs11Spec {
        &self.spec
    }

    /// Does a step in a session. Where the session got lost the step is done once more from its begin in another:
    /// so each step must be one that may be repeated.
    pub(super) fn with<T>(
        &mut self,
        mut step: impl FnMut(&mut Connection) -> Result<T, Failure>,
    ) -> Result<T, ElementError> {
        for is_last in [false, true] {
            let was_there = self.connection.is_some();
            let connection = match &mut self.connection {
                Some(connection) => connection,
                none => {
                    if let Some(wrong_pin) = &self.wrong_pin {
                        return Err(wrong_pin.clone());
                    }
                    let connection = match connect(&self.spec, self.description.as_ref()) {
                        Ok(connection) => connection,
                        Err(Unconnected::Now(error)) => return Err(error),
                        Err(Unconnected::WrongPin(error)) => {
                            self.wrong_pin = Some(error.clone());
                            return Err(error);
                        }
                    };
                    self.description.get_or_insert_with(|| connection.description.clone());
                    none.insert(connection)
                }
            };
            match step(connection) {
                Err(failure) if failure.is_session_lost() => {
                    self.connection = None;
                    if is_last || !was_there {
                        return Err(failure.into());
                    }
                }
                done => return done.map_err(ElementError::from),
            }
        }
        unreachable!("the last round returns")
    }
}

impl Connection {
    /// Another session beside, logged in as well: when it is dropped, what was made in it goes with it.
    pub(super) fn passing(&self) -> Result<Session, Failure> {
        self.library.open_rw_session(self.slot).doing("opening a second session on the token")
    }
}

/// Why there is no session on a token.
enum Unconnected {
    /// Another time there may be one.
    Now(ElementError),
    /// Not before somebody has looked at it.
    WrongPin(ElementError),
}

impl From<ElementError> for Unconnected {
    fn from(error: ElementError) -> Self {
        Self::Now(error)
    }
}

impl From<Failure> for Unconnected {
    fn from(failure: Failure) -> Self {
        Self::Now(failure.into())
    }
}

fn connect(spec: &Pkcs11Spec, known: Option<&Description>) -> Result<Connection, Unconnected> {
    let library = module::load(spec.module_path())?;
    let (slot, token) = module::find(&library, spec)?;
    let description = module::description(&library, slot, &token);
    if let Some(known) = known.filter(|known| known.identity() != description.identity()) {
        return Err(Unconnected::Now(ElementError::Unavailable(format!(
            "another token called {:?} is in its place (serial {}); plug in the one with serial {}",
            spec.token(),
            description.serial,
            known.serial
        ))));
    }
    if let Some(obstacle) = module::obstacle(&library, slot, &token)? {
        return Err(Unconnected::Now(ElementError::Refused(obstacle)));
    }
    let session = library.open_rw_session(slot).doing("opening a session on the token")?;
    log_in(&library, slot, &token, &session, spec)?;
    let rsa = library
        .get_mechanism_info(slot, MechanismType::RSA_PKCS_KEY_PAIR_GEN)
        .doing("asking the token what it can do")?;
    Ok(Connection {
        description,
        library,
        slot,
        session,
        known: BTreeMap::new(),
        // Some say nothing here.
        largest_rsa: if rsa.max_key_size() == 0 { usize::MAX } else { rsa.max_key_size() },
    })
}

fn log_in(
    library: &Pkcs11,
    slot: Slot,
    token: &TokenInfo,
    session: &Session,
    spec: &Pkcs11Spec,
) -> Result<(), Unconnected> {
    let pin_file = spec.pin_file().display();
    let label = spec.token();
    let refused = |why: String| Unconnected::Now(ElementError::Refused(format!("token {label:?}: {why}")));
    let pin = read_passphrase(spec.pin_file())?;
    if let Some(why) = Tries::of(token).obstacle() {
        return Err(refused(format!("{why} (PIN file {pin_file})")));
    }
    // Exactly as long as it is, so that the copy is one piece, which is wiped.
    let pin = RawAuthPin::new(Box::new(pin.to_vec()));
    let failure = match session.login_with_raw(UserType::User, &pin).doing("logging in to the token") {
        Ok(()) => return Ok(()),
        Err(failure) => failure,
    };
    match failure.code() {
        // By another element of this process.
        Some(RvError::UserAlreadyLoggedIn) => Ok(()),
        Some(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange) => {
            let left = library.get_token_info(slot).map_or("", |token| Tries::of(&token).after_a_wrong_pin());
            let why = format!("wrong PIN for token {label:?} in {pin_file}{left}");
            Err(Unconnected::WrongPin(ElementError::Refused(why)))
        }
        Some(RvError::PinLocked) => Err(refused(Tries::LOCKED.to_owned())),
        Some(RvError::UserPinNotInitialized) => {
            Err(refused("it has no user PIN: set one with its own program".to_owned()))
        }
        Some(RvError::UserAnotherAlreadyLoggedIn | RvError::UserTooManyTypes) => {
            Err(Unconnected::Now(ElementError::Unavailable(format!(
                "token {label:?} is busy: another user is logged in; end that program, then try again"
            ))))
        }
        _ => Err(failure.into()),
    }
}

/// What a token's flags tell of the tries for its PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tries {
    /// Nothing was wrong since the last right one, or the token does not say.
    Unknown,
    /// A wrong one was tried.
    Some,
    /// The next wrong one locks it.
    Last,
    Locked,
    /// It is the maker's, or has expired.
    ToBeChanged,
}

impl Tries {
    const LOCKED: &str = "it is locked out: its PIN was wrong too often; unlock it with its own program and the \
                          security officer's PIN";

    fn of(token: &TokenInfo) -> Self {
        if token.user_pin_locked() {
            Self::Locked
        } else if token.user_pin_final_try() {
            Self::Last
        } else if token.user_pin_to_be_changed() {
            Self::ToBeChanged
        } else if token.user_pin_count_low() {
            Self::Some
        } else {
            Self::Unknown
        }
    }

    /// Why no PIN is tried. The last try is a person's: a service that starts again and again would lock the token.
    fn obstacle(self) -> Option<&'static str> {
        match self {
            Self::Unknown | Self::Some => None,
            Self::Locked => Some(Self::LOCKED),
            Self::Last => Some(
                "one try for its PIN is left, which AKM does not spend; put the right one into the file, log in once \
                 with another program (pkcs11-tool --login --test), then try again",
            ),
            Self::ToBeChanged => {
                Some("its PIN must be changed before it can be used; do so with its own program")
            }
        }
    }

    fn after_a_wrong_pin(self) -> &'static str {
        match self {
            Self::Locked => "; it is locked out by this: unlock it with the security officer's PIN",
            Self::Last => "; one try is left: put the right one there before anything else",
            Self::Some => "; more than one try is left",
            Self::Unknown | Self::ToBeChanged => "; the token does not say how many tries are left",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_try_is_left_to_a_person() {
        assert_eq!(Tries::Unknown.obstacle(), None);
        assert_eq!(Tries::Some.obstacle(), None);
        assert!(Tries::Last.obstacle().unwrap().contains("does not spend"));
        assert!(Tries::Locked.obstacle().unwrap().contains("locked out"));
        assert!(Tries::ToBeChanged.obstacle().is_some());
    }

    #[test]
    fn what_is_left_after_a_wrong_pin_is_told_as_far_as_it_is_known() {
        assert!(Tries::Locked.after_a_wrong_pin().contains("locked out"));
        assert!(Tries::Last.after_a_wrong_pin().contains("one try is left"));
        assert!(Tries::Some.after_a_wrong_pin().contains("more than one"));
        assert!(Tries::Unknown.after_a_wrong_pin().contains("does not say"));
    }
}
