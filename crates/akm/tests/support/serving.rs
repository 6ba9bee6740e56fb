//! Programs that stay running and answer health and metrics.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};

use akm_counterparts::ports;

use super::plant::Plant;

/// An `akm serve` that ends with the test.
#[derive(Debug)]
pub(crate) struct Serving(pub(crate) Child);

impl Serving {
    pub(crate) fn start(plant: &Plant, metrics: SocketAddr) -> Self {
        let address = metrics.to_string();
        let mut child = plant
            .akm_command(&["serve", "--every", "200ms", "--metrics", &address])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("akm can be started");
        let mut first = [0; 1];
        child.stderr.as_mut().expect("a pipe").read_exact(&mut first).expect("a line that says it serves");
        Self(child)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address on loopback that is this process's own.
pub(crate) fn free_address() -> SocketAddr {
    ([127, 0, 0, 1], ports::port()).into()
}

pub(crate) fn get(address: SocketAddr, page: &str) -> String {
    get_as(address, &address.to_string(), page)
}

/// The same as somebody who calls it so.
pub(crate) fn get_as(address: SocketAddr, host: &str, page: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else { return String::new() };
    write!(stream, "GET {page} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// Somebody on this machine who connects, four times, and says nothing.
pub(crate) struct Silent([TcpStream; 4]);

impl Silent {
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self([(); 4].map(|()| TcpStream::connect(address).unwrap()))
    }

    /// All four are open still: whoever was answered since had not to wait until they were given up.
    #[track_caller]
    pub(crate) fn check_was_not_waited_for(mut self) {
        for stream in &mut self.0 {
            stream.set_nonblocking(true).unwrap();
            let nothing = stream.read(&mut [0]).expect_err("it is open, and nothing came");
            assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
        }
    }
}
