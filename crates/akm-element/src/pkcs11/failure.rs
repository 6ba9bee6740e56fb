//! What can fail at a token, in the operator's words.

use akm_core::element::ElementError;
use cryptoki::error::{Error, RvError};

/// Why a step at the token was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The token, or its library, said no.
    Token {
        /// What it was asked for, as the begin of a sentence.
        doing: &'static str,
        /// Its answer.
        error: Error,
    },
    /// It said yes, and still it is not right.
    Element(ElementError),
}

impl From<ElementError> for Failure {
    fn from(error: ElementError) -> Self {
        Self::Element(error)
    }
}

/// Names what the token was asked for.
pub(super) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, Failure>;
}

impl<T> Doing<T> for Result<T, Error> {
    fn doing(self, doing: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Token { doing, error })
    }
}

impl Failure {
    /// It will not do this: stop.
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self::Element(ElementError::Refused(why.into()))
    }

    /// What the token answered, where it is one of its own codes.
    pub(super) fn code(&self) -> Option<RvError> {
        match self {
            Self::Token { error: Error::Pkcs11(code, _), .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the session is gone, and another one may do better.
    pub(super) fn is_session_lost(&self) -> bool {
        matches!(
            self.code(),
            Some(
                RvError::SessionHandleInvalid
                    | RvError::SessionClosed
                    | RvError::UserNotLoggedIn
                    | RvError::DeviceError
                    | RvError::DeviceRemoved
                    | RvError::TokenNotPresent
                    | RvError::TokenNotRecognized
                    | RvError::SlotIdInvalid
                    | RvError::OperationActive
            )
        )
    }

    /// Whether an object that a handle stood for is gone.
    pub(super) fn is_object_gone(&self) -> bool {
        matches!(self.code(), Some(RvError::KeyHandleInvalid | RvError::ObjectHandleInvalid))
    }

    /// Whether the token does not take an attribute, so that it may be asked without it.
    pub(super) fn is_about_attributes(&self) -> bool {
        matches!(
            self.code(),
            Some(
                RvError::AttributeTypeInvalid
                    | RvError::AttributeValueInvalid
                    | RvError::AttributeReadOnly
                    | RvError::TemplateInconsistent
                    | RvError::TemplateIncomplete
            )
        )
    }

    /// Whether the token makes no key of this size.
    pub(super) fn is_about_size(&self) -> bool {
        self.code() == Some(RvError::KeySizeRange)
    }

    /// Whether a wrapped root does not unwrap: it is damaged, or for another key.
    pub(super) fn is_about_wrapped(&self) -> bool {
        matches!(
            self.code(),
            Some(
                RvError::WrappedKeyInvalid
                    | RvError::WrappedKeyLenRange
                    | RvError::EncryptedDataInvalid
                    | RvError::EncryptedDataLenRange
                    | RvError::DataInvalid
                    | RvError::DataLenRange
                    | RvError::FunctionFailed
                    // What SoftHSM says to it.
                    | RvError::GeneralError
            )
        )
    }
}

impl From<Failure> for ElementError {
    fn from(failure: Failure) -> Self {
        let (doing, error) = match failure {
            Failure::Element(error) => return error,
            Failure::Token { doing, error } => (doing, error),
        };
        let Error::Pkcs11(code, _) = error else {
            return Self::Unavailable(format!("{doing}: the token's library failed: {error}"));
        };
        let unavailable = |why: &str| Self::Unavailable(format!("{doing}: {why}"));
        let refused = |why: &str| Self::Refused(format!("{doing}: {why}"));
        match code {
            RvError::DeviceMemory => Self::Full,
            RvError::DeviceRemoved | RvError::TokenNotPresent | RvError::SlotIdInvalid => {
                unavailable("the token was removed; plug it in again")
            }
            RvError::TokenNotRecognized => {
                unavailable("the reader does not recognise what is in it as a token")
            }
            RvError::DeviceError => {
                unavailable("the token reports an error of its own; take it out and plug it in again")
            }
            RvError::SessionCount => {
                unavailable("the token is busy: it has no session left; close the programs that use it")
            }
            RvError::SessionHandleInvalid
            | RvError::SessionClosed
            | RvError::UserNotLoggedIn
            | RvError::OperationActive => {
                unavailable("another program closed the session or logged out; keep it away from this token")
            }
            RvError::HostMemory => unavailable("not enough memory on this machine"),
            RvError::TokenWriteProtected | RvError::SessionReadOnly => {
                refused("the token is write-protected; take the protection off")
            }
            RvError::PinExpired => refused("the PIN has expired; set another, and put it into the PIN file"),
            code if is_final(code) => refused(&format!("the token does not do this ({code:?})")),
            code => unavailable(&format!("the token answers {code:?}; try again, or look at its own log")),
        }
    }
}

/// Whether asking again is of no use.
fn is_final(code: RvError) -> bool {
    matches!(
        code,
        RvError::ActionProhibited
            | RvError::AttributeReadOnly
            | RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::FunctionNotSupported
            | RvError::KeyFunctionNotPermitted
            | RvError::KeySizeRange
            | RvError::KeyTypeInconsistent
            | RvError::MechanismInvalid
            | RvError::MechanismParamInvalid
            | RvError::TemplateInconsistent
            | RvError::TemplateIncomplete
    )
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    fn said(code: RvError) -> ElementError {
        let failed: Result<(), _> = Err(Error::Pkcs11(code, Function::Sign));
        failed.doing("using a root").unwrap_err().into()
    }

    #[test]
    fn what_the_caller_can_do_next_decides_the_kind_of_error() {
        assert_eq!(said(RvError::DeviceMemory), ElementError::Full);
        for code in
            [RvError::DeviceRemoved, RvError::DeviceError, RvError::SessionCount, RvError::FunctionFailed]
        {
            assert!(matches!(said(code), ElementError::Unavailable(_)), "{code:?}");
        }
        for code in [RvError::MechanismInvalid, RvError::TokenWriteProtected, RvError::FunctionNotSupported] {
            assert!(matches!(said(code), ElementError::Refused(_)), "{code:?}");
        }
    }

    #[test]
    fn an_error_says_in_one_line_what_failed_and_what_to_do() {
        assert_eq!(
            said(RvError::DeviceRemoved).to_string(),
            "the element is not available: using a root: the token was removed; plug it in again"
        );
        assert_eq!(
            said(RvError::MechanismInvalid).to_string(),
            "the element refused: using a root: the token does not do this (MechanismInvalid)"
        );
    }
}
