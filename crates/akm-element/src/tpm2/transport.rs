//! How bytes reach a TPM: a device of the kernel, or TCP to a swtpm.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use akm_disk::advice;
use rustix::io::Errno;

use super::failure::Failure;
use super::spec::Place;
use super::wire::FRAME_LENGTH_MAX;

/// Tag, length and code.
pub(super) const HEADER_LENGTH: usize = 10;

/// How long a swtpm may take to be reached.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// How long a swtpm may take for an answer. It serves one program at a time: another one waits as long.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// A way to a TPM, open.
pub(super) trait Transport: Send {
    /// Sends a command and returns the answer. After an error nothing more is asked of it.
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, Failure>;
}

/// Opens ways to one TPM.
pub(super) trait Connect: Send {
    fn connect(&self) -> Result<Box<dyn Transport>, Failure>;

    /// Whether nobody stands between: what a killed program left in the TPM is still there, and it may not be
    /// started yet.
    fn is_raw(&self) -> bool;
}

impl Connect for Place {
    fn connect(&self) -> Result<Box<dyn Transport>, Failure> {
        Ok(match self {
            Self::Device(path) => Box::new(Device::open(path)?),
            Self::Swtpm { host, port } => Box::new(Swtpm::connect(host, *port)?),
        })
    }

    fn is_raw(&self) -> bool {
        match self {
            // The kernel's resource manager gives each program its own objects and sessions.
            Self::Device(path) => {
                !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"tpmrm"))
            }
            Self::Swtpm { .. } => true,
        }
    }
}

struct Device {
    file: File,
    name: String,
}

impl Device {
    fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(|error| lost(&name, &error))?;
        Ok(Self { file, name })
    }
}

impl Transport for Device {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut answer = vec![0; FRAME_LENGTH_MAX];
        // The kernel takes a command whole in one write, and gives the answer in one read.
        let length = again(|| self.file.write(command))
            .and_then(
                |written| if written == command.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) },
            )
            .and_then(|()| again(|| self.file.read(&mut answer)))
            .map_err(|error| lost(&self.name, &error))?;
        answer.truncate(length);
        Ok(answer)
    }
}

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

struct Swtpm {
    stream: TcpStream,
    name: String,
}

impl Swtpm {
    fn connect(host: &str, port: u16) -> Result<Self, Failure> {
        let name = format!("the swtpm at {host} port {port}");
        let addresses = (host, port).to_socket_addrs().map_err(|error| lost(&name, &error))?;
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_TIME) {
                Ok(stream) => {
                    stream
                        .set_nodelay(true)
                        .and_then(|()| stream.set_read_timeout(Some(ANSWER_TIME)))
                        .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIME)))
                        .map_err(|error| lost(&name, &error))?;
                    return Ok(Self { stream, name });
                }
                Err(error) => last = error,
            }
        }
        Err(lost(&name, &last))
    }

    fn try_exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.write_all(command)?;
        let mut answer = vec![0; HEADER_LENGTH];
        self.stream.read_exact(&mut answer)?;
        let length = u32::from_be_bytes([answer[2], answer[3], answer[4], answer[5]]) as usize;
        if !(HEADER_LENGTH..=FRAME_LENGTH_MAX).contains(&length) {
            return Err(ErrorKind::InvalidData.into());
        }
        answer.resize(length, 0);
        self.stream.read_exact(&mut answer[HEADER_LENGTH..])?;
        Ok(answer)
    }
}

impl Transport for Swtpm {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, Failure> {
        self.try_exchange(command).map_err(|error| lost(&self.name, &error))
    }
}

fn lost(name: &str, error: &io::Error) -> Failure {
    let is = |errno: Errno| Errno::from_io_error(error) == Some(errno);
    let why = match error.kind() {
        ErrorKind::NotFound if name.starts_with('/') => format!(
            "there is no TPM at {name}: is it switched on in the firmware, and the driver loaded (ls /dev/tpm*)?"
        ),
        _ if is(Errno::NXIO) || is(Errno::NODEV) => {
            format!("the TPM at {name} is gone: was it switched off, or its driver unloaded?")
        }
        // So the kernel says that an answer is cut off.
        _ if is(Errno::FAULT) || is(Errno::IO) || is(Errno::TIME) => {
            format!(
                "the TPM at {name} does not answer any more: switch the machine off and on, then try again"
            )
        }
        _ if is(Errno::BUSY) => {
            format!(
                "the TPM at {name} is busy: end the other program, or use /dev/tpmrm0, which can be shared"
            )
        }
        ErrorKind::PermissionDenied => {
            format!("{name}: {error}; run as root, or as a member of its group (usually tss)")
        }
        ErrorKind::ConnectionRefused => format!("{name} does not answer: start it, or correct host and port"),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("{name} does not answer: it serves one program at a time, and another one may use it")
        }
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            format!("{name} went away: start it again, then try again")
        }
        ErrorKind::InvalidData => format!("{name} answers with something else than a TPM 2.0"),
        _ => format!("{name}: {error}{}", advice(error)),
    };
    Failure::Lost(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kernels_resource_manager_stands_between() {
        for (path, is_raw) in [("/dev/tpmrm0", false), ("/dev/tpm0", true), ("/dev/tpmrm12", false)] {
            assert_eq!(Place::Device(path.into()).is_raw(), is_raw, "{path}");
        }
    }

    #[test]
    fn a_device_that_stops_answering_is_told_with_what_to_do() {
        for errno in [Errno::FAULT, Errno::IO, Errno::TIME] {
            let Failure::Lost(why) = lost("/dev/tpmrm0", &errno.into()) else { panic!("it is lost") };
            assert!(why.contains("/dev/tpmrm0 does not answer") && why.contains("off and on"), "{why}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_told_by_name() {
        let Err(Failure::Lost(why)) = Place::Device("/dev/akm-no-such-tpm".into()).connect() else {
            panic!("nothing to connect to")
        };
        assert!(why.starts_with("there is no TPM at /dev/akm-no-such-tpm"), "{why}");
    }
}
