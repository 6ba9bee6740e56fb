//! PC/SC: the few functions of libpcsclite that a card takes, found when they are first needed.
//!
//! Linked at load time, the library would have to be on every target, or the stack would not start there, card or no
//! card. So it is opened by name at run time. All unsafe code of the crate is here: calls of C functions, with
//! the types of `winscard.h` as on Linux (DWORD is an unsigned long, LONG and the handles are long, structures are not
//! packed).

#![allow(unsafe_code, reason = "C functions that are found at run time cannot be called otherwise")]

use std::ffi::{CString, c_char, c_long, c_ulong, c_void};
use std::fmt;
use std::sync::{Arc, OnceLock};

use libloading::Library;
use zeroize::Zeroizing;

const LIBRARY: &str = "libpcsclite.so.1";

/// Room for the longest short response, and more.
const RESPONSE_MAX: usize = 264;

const SCOPE_SYSTEM: Dword = 2;
const SHARE_SHARED: Dword = 2;
const PROTOCOL_T0: Dword = 1;
const PROTOCOL_T1: Dword = 2;
const LEAVE_CARD: Dword = 0;

type Dword = c_ulong;
type Long = c_long;

/// `SCARD_IO_REQUEST`.
#[repr(C)]
struct IoRequest {
    protocol: Dword,
    length: Dword,
}

type EstablishContext = unsafe extern "C" fn(Dword, *const c_void, *const c_void, *mut Long) -> Long;
type ReleaseContext = unsafe extern "C" fn(Long) -> Long;
type ListReaders = unsafe extern "C" fn(Long, *const c_char, *mut c_char, *mut Dword) -> Long;
type Connect = unsafe extern "C" fn(Long, *const c_char, Dword, Dword, *mut Long, *mut Dword) -> Long;
type Reconnect = unsafe extern "C" fn(Long, Dword, Dword, Dword, *mut Dword) -> Long;
type OfCard = unsafe extern "C" fn(Long) -> Long;
type OfCardWith = unsafe extern "C" fn(Long, Dword) -> Long;
type Transmit = unsafe extern "C" fn(
    Long,
    *const IoRequest,
    *const u8,
    Dword,
    *mut IoRequest,
    *mut u8,
    *mut Dword,
) -> Long;

/// The functions, as found.
struct Functions {
    establish_context: EstablishContext,
    release_context: ReleaseContext,
    list_readers: ListReaders,
    connect: Connect,
    reconnect: Reconnect,
    disconnect: OfCardWith,
    begin_transaction: OfCard,
    end_transaction: OfCardWith,
    transmit: Transmit,
    /// Keeps the code where the functions point to.
    _library: Library,
}

/// Why PC/SC did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PcscError {
    /// The library is not there, or is not the one expected.
    Library(String),
    /// A code of `pcsclite.h`.
    Code(u32),
}

/// Codes that are told apart.
pub(super) mod code {
    pub(crate) const INVALID_HANDLE: u32 = 0x8010_0003;
    pub(crate) const UNKNOWN_READER: u32 = 0x8010_0009;
    pub(crate) const SHARING_VIOLATION: u32 = 0x8010_000b;
    pub(crate) const NO_SMARTCARD: u32 = 0x8010_000c;
    pub(crate) const PROTOCOL_MISMATCH: u32 = 0x8010_000f;
    pub(crate) const INTERNAL_COMMUNICATION: u32 = 0x8010_0013;
    pub(crate) const NOT_TRANSACTED: u32 = 0x8010_0016;
    pub(crate) const READER_UNAVAILABLE: u32 = 0x8010_0017;
    pub(crate) const NO_SERVICE: u32 = 0x8010_001d;
    pub(crate) const SERVICE_STOPPED: u32 = 0x8010_001e;
    pub(crate) const NO_READERS: u32 = 0x8010_002e;
    pub(crate) const UNRESPONSIVE_CARD: u32 = 0x8010_0066;
    pub(crate) const UNPOWERED_CARD: u32 = 0x8010_0067;
    pub(crate) const RESET_CARD: u32 = 0x8010_0068;
    pub(crate) const REMOVED_CARD: u32 = 0x8010_0069;
    pub(crate) const SECURITY_VIOLATION: u32 = 0x8010_006a;
}

impl PcscError {
    pub(super) fn is(&self, code: u32) -> bool {
        *self == Self::Code(code)
    }
}

impl Functions {
    /// The functions of this process, looked up once. A library that was missing is looked for again.
    fn find() -> Result<&'static Self, PcscError> {
        static FOUND: OnceLock<Functions> = OnceLock::new();
        if let Some(found) = FOUND.get() {
            return Ok(found);
        }
        let functions = Self::load().map_err(|error| PcscError::Library(error.to_string()))?;
        Ok(FOUND.get_or_init(|| functions))
    }

    fn load() -> Result<Self, libloading::Error> {
        // SAFETY: the library's initialisers only set up its own state.
        let library = unsafe { Library::new(LIBRARY) }?;
        // SAFETY: each type is that of the function of this name in `winscard.h`; the library stays beside the pointers.
        unsafe {
            Ok(Self {
                establish_context: *library.get::<EstablishContext>(b"SCardEstablishContext\0")?,
                release_context: *library.get::<ReleaseContext>(b"SCardReleaseContext\0")?,
                list_readers: *library.get::<ListReaders>(b"SCardListReaders\0")?,
                connect: *library.get::<Connect>(b"SCardConnect\0")?,
                reconnect: *library.get::<Reconnect>(b"SCardReconnect\0")?,
                disconnect: *library.get::<OfCardWith>(b"SCardDisconnect\0")?,
                begin_transaction: *library.get::<OfCard>(b"SCardBeginTransaction\0")?,
                end_transaction: *library.get::<OfCardWith>(b"SCardEndTransaction\0")?,
                transmit: *library.get::<Transmit>(b"SCardTransmit\0")?,
                _library: library,
            })
        }
    }
}

/// A connection to the PC/SC service.
pub(super) struct Context {
    functions: &'static Functions,
    handle: Long,
}

impl Context {
    /// Connects to the service.
    pub(super) fn establish() -> Result<Self, PcscError> {
        let functions = Functions::find()?;
        let mut handle = 0;
        // SAFETY: both reserved pointers may be null; `handle` outlives the call.
        let returned = unsafe {
            (functions.establish_context)(SCOPE_SYSTEM, std::ptr::null(), std::ptr::null(), &mut handle)
        };
        check(returned)?;
        Ok(Self { functions, handle })
    }

    /// The names of all readers.
    pub(super) fn readers(&self) -> Result<Vec<String>, PcscError> {
        // A reader that comes between the two calls makes the second fail; so there is a third.
        let mut last = PcscError::Code(code::NO_READERS);
        for _ in 0..3 {
            match self.list() {
                Ok(names) => return Ok(names),
                Err(error) if error.is(code::NO_READERS) => return Ok(Vec::new()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn list(&self) -> Result<Vec<String>, PcscError> {
        let mut length = 0;
        // SAFETY: without a buffer only the length is written, and it outlives the call.
        let returned = unsafe {
            (self.functions.list_readers)(self.handle, std::ptr::null(), std::ptr::null_mut(), &mut length)
        };
        check(returned)?;
        let mut names = vec![0u8; usize::try_from(length).unwrap_or(0)];
        // SAFETY: the buffer has as many bytes as `length` says, and both outlive the call.
        let returned = unsafe {
            let buffer = names.as_mut_ptr().cast::<c_char>();
            (self.functions.list_readers)(self.handle, std::ptr::null(), buffer, &mut length)
        };
        check(returned)?;
        names.truncate(usize::try_from(length).unwrap_or(0));
        let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// Connects to the card in a reader, beside other programs.
    pub(super) fn connect(self: &Arc<Self>, reader: &str) -> Result<Connection, PcscError> {
        let name = c_string(reader)?;
        let (mut handle, mut protocol) = (0, 0);
        // SAFETY: name, handle and protocol outlive the call.
        let returned = unsafe {
            let protocols = PROTOCOL_T0 | PROTOCOL_T1;
            (self.functions.connect)(
                self.handle,
                name.as_ptr(),
                SHARE_SHARED,
                protocols,
                &mut handle,
                &mut protocol,
            )
        };
        check(returned)?;
        Ok(Connection { context: Arc::clone(self), handle, protocol })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the handle came from this library, and connections hold the context.
        unsafe { (self.functions.release_context)(self.handle) };
    }
}

/// A connection to a card.
pub(super) struct Connection {
    context: Arc<Context>,
    handle: Long,
    protocol: Dword,
}

impl Connection {
    /// Whether T=0 is spoken, where the caller fetches responses.
    pub(super) fn is_t0(&self) -> bool {
        self.protocol == PROTOCOL_T0
    }

    /// Keeps other programs away from the card, after waiting for them.
    pub(super) fn begin(&mut self) -> Result<(), PcscError> {
        // SAFETY: takes a handle only.
        check(unsafe { (self.context.functions.begin_transaction)(self.handle) })
    }

    /// Lets other programs in.
    pub(super) fn end(&mut self) -> Result<(), PcscError> {
        // SAFETY: takes numbers only.
        check(unsafe { (self.context.functions.end_transaction)(self.handle, LEAVE_CARD) })
    }

    /// Takes note of a reset by another program.
    pub(super) fn reconnect(&mut self) -> Result<(), PcscError> {
        let mut protocol = 0;
        // SAFETY: `protocol` outlives the call.
        let returned = unsafe {
            let protocols = PROTOCOL_T0 | PROTOCOL_T1;
            (self.context.functions.reconnect)(
                self.handle,
                SHARE_SHARED,
                protocols,
                LEAVE_CARD,
                &mut protocol,
            )
        };
        check(returned)?;
        self.protocol = protocol;
        Ok(())
    }

    /// Sends a command and returns the response with its status word.
    pub(super) fn transmit(&mut self, command: &[u8]) -> Result<Zeroizing<Vec<u8>>, PcscError> {
        let request =
            IoRequest { protocol: self.protocol, length: std::mem::size_of::<IoRequest>() as Dword };
        let mut response = Zeroizing::new(vec![0u8; RESPONSE_MAX]);
        let mut length = RESPONSE_MAX as Dword;
        // SAFETY: both buffers have the lengths given, and all outlive the call; the receiving request may be null.
        let returned = unsafe {
            (self.context.functions.transmit)(
                self.handle,
                &request,
                command.as_ptr(),
                command.len() as Dword,
                std::ptr::null_mut(),
                response.as_mut_ptr(),
                &mut length,
            )
        };
        check(returned)?;
        response.truncate(usize::try_from(length).unwrap_or(0));
        Ok(response)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: takes numbers only; a handle that is no longer valid is refused by the library.
        unsafe { (self.context.functions.disconnect)(self.handle, LEAVE_CARD) };
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

fn c_string(text: &str) -> Result<CString, PcscError> {
    CString::new(text).map_err(|_| PcscError::Code(code::UNKNOWN_READER))
}

fn check(returned: Long) -> Result<(), PcscError> {
    // The codes have 32 bits, whatever a long has.
    match returned as u32 {
        0 => Ok(()),
        code => Err(PcscError::Code(code)),
    }
}
