//! What a TPM answers instead of doing it, in the operator's words.

use akm_core::element::ElementError;

use super::wire::Malformed;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(super) enum Failure {
    /// The TPM was not reached, or was lost on the way; whether it did the command is not known.
    Lost(String),
    /// It answered with a response code.
    Code { command: &'static str, code: u32 },
    /// Its answer is not of the form that it should have.
    Malformed,
    /// Its answer is not under the keys of the session.
    NotAuthentic,
    /// Something else of the element.
    Element(ElementError),
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<ElementError> for Failure {
    fn from(error: ElementError) -> Self {
        Self::Element(error)
    }
}

pub(super) const INITIALIZE: u32 = 0x100;
const FAILURE: u32 = 0x101;
/// The same from a TPM 1.2: what qemu answers where its TPM is gone.
const FAILURE_OLD: u32 = 0x009;
const DISABLED: u32 = 0x120;
const AUTH_TYPE: u32 = 0x124;
const PCR_CHANGED: u32 = 0x128;
const COMMAND_CODE: u32 = 0x143;
pub(super) const NV_AUTHORIZATION: u32 = 0x149;
const NV_UNINITIALIZED: u32 = 0x14a;
const NV_SPACE: u32 = 0x14b;
pub(super) const NV_DEFINED: u32 = 0x14c;
const HIERARCHY: u32 = 0x85;
pub(super) const HANDLE: u32 = 0x8b;
pub(super) const AUTH_FAIL: u32 = 0x8e;
const POLICY_FAIL: u32 = 0x9d;
const INTEGRITY: u32 = 0x9f;
pub(super) const BAD_AUTH: u32 = 0xa2;
const CONTEXT_GAP: u32 = 0x901;
const OBJECT_MEMORY: u32 = 0x902;
const SESSION_MEMORY: u32 = 0x903;
const MEMORY: u32 = 0x904;
const SESSION_HANDLES: u32 = 0x905;
const OBJECT_HANDLES: u32 = 0x906;
const YIELDED: u32 = 0x908;
const TESTING: u32 = 0x90a;
const REFERENCE_FIRST: u32 = 0x910;
const REFERENCE_LAST: u32 = 0x91e;
const NV_RATE: u32 = 0x920;
const LOCKOUT: u32 = 0x921;
const RETRY: u32 = 0x922;
const NV_UNAVAILABLE: u32 = 0x923;

/// The code without the number of the parameter, handle or session that it is about.
pub(super) fn kind(code: u32) -> u32 {
    if code & 0x80 != 0 { code & 0xbf } else { code & 0xfff }
}

/// Whether the TPM asks for the same command again, having done nothing.
pub(super) fn asks_again(code: u32) -> bool {
    matches!(kind(code), YIELDED | TESTING | NV_RATE | RETRY)
}

impl Failure {
    /// Whether it is this response code, whatever parameter it is about.
    pub(super) fn is(&self, wanted: u32) -> bool {
        matches!(self, Self::Code { code, .. } if kind(*code) == wanted)
    }
}

impl From<Failure> for ElementError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(why) => Self::Unavailable(why),
            Failure::Malformed => {
                Self::Unavailable("the TPM's answer is malformed: is it a TPM 2.0 that is reached there?".into())
            }
            Failure::NotAuthentic => Self::Refused(
                "the TPM's answer is not authentic: something between this program and the TPM has changed it, or it \
                 is another TPM"
                    .into(),
            ),
            Failure::Element(error) => error,
            Failure::Code { command, code } => of_code(command, code),
        }
    }
}

fn of_code(command: &str, code: u32) -> ElementError {
    let unavailable = |why: &str| ElementError::Unavailable(why.into());
    let refused = |why: &str| ElementError::Refused(why.into());
    match kind(code) {
        LOCKOUT => unavailable(
            "the TPM is locked out after wrong authorisations: wait until it forgets them, or reset it \
             (tpm2_dictionarylockout --clear-lockout)",
        ),
        INITIALIZE => unavailable("the TPM was not started: restart the machine, or the swtpm"),
        FAILURE | FAILURE_OLD => unavailable(
            "the TPM is in failure mode: switch the machine off and on again; if it stays so the TPM is broken \
             (a swtpm: is its state directory there, named by an absolute path?)",
        ),
        OBJECT_MEMORY | SESSION_MEMORY | MEMORY | SESSION_HANDLES | OBJECT_HANDLES | CONTEXT_GAP => {
            unavailable(
                "the TPM's memory is taken by other programs: end them, or use /dev/tpmrm0 rather than /dev/tpm0",
            )
        }
        _ if asks_again(code) => unavailable("the TPM is busy and stayed so: try again"),
        REFERENCE_FIRST..=REFERENCE_LAST => {
            unavailable("the TPM was reset meanwhile (a restart, or a suspend): try again")
        }
        PCR_CHANGED => unavailable("the TPM's PCRs changed meanwhile: try again"),
        NV_UNAVAILABLE => {
            unavailable("the TPM cannot reach its storage: try again; if it stays so it is broken")
        }
        NV_SPACE => refused(
            "the TPM has no room for another counter or key: remove what nobody needs \
             (tpm2_getcap handles-nv-index, tpm2_nvundefine; tpm2_getcap handles-persistent, tpm2_evictcontrol)",
        ),
        POLICY_FAIL => refused(
            "the machine was not started as when this root was installed: the PCRs that it is bound to differ",
        ),
        BAD_AUTH | AUTH_FAIL | NV_AUTHORIZATION => ElementError::Refused(format!(
            "the TPM takes another authorisation for this ({command}): what AKM made in it was changed"
        )),
        HIERARCHY | DISABLED => {
            refused("the TPM's owner or endorsement hierarchy is switched off: switch it on in the firmware")
        }
        COMMAND_CODE => {
            ElementError::Refused(format!("this TPM does not know TPM2_{command}, which AKM needs"))
        }
        NV_UNINITIALIZED => ElementError::Damaged("its counter has never counted".into()),
        INTEGRITY => ElementError::Damaged(format!(
            "the TPM does not recognise what was given to it (TPM2_{command}, response code {code:#x})"
        )),
        AUTH_TYPE => ElementError::Refused(format!("the TPM does not permit TPM2_{command} here")),
        _ => ElementError::Refused(format!("TPM2_{command} failed with response code {code:#x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: u32) -> ElementError {
        Failure::Code { command: "Load", code }.into()
    }

    #[test]
    fn what_can_be_mended_is_unavailable_and_what_cannot_is_refused() {
        for (code, words) in [
            (0x921, "locked out"),
            (0x101, "failure mode"),
            (0x009, "failure mode"),
            (0x902, "memory"),
            (0x922, "busy"),
            (0x920, "busy"),
            (0x918, "reset"),
            (0x128, "PCRs"),
            (0x100, "not started"),
        ] {
            assert!(
                matches!(said(code), ElementError::Unavailable(why) if why.contains(words)),
                "{code:#x}: {:?}",
                said(code)
            );
        }
        for (code, words) in [
            (0x14b, "no room"),
            (0x99d, "PCRs"),
            (0x98e, "authorisation"),
            (0x9a2, "authorisation"),
            (0x185, "hierarchy"),
            (0x143, "TPM2_Load"),
            (0x2cb, "0x2cb"),
        ] {
            assert!(
                matches!(said(code), ElementError::Refused(why) if why.contains(words)),
                "{code:#x}: {:?}",
                said(code)
            );
        }
        assert!(matches!(said(0x1df), ElementError::Damaged(_)));
    }
}
