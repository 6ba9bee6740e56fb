//! What a stranger on the network can do with frames that he recorded, and with frames of his own.

use std::net::{SocketAddr, UdpSocket};

use akm_core::frame::{HEADER_LENGTH, OVERHEAD};
use serde_json::json;

use super::installation::{Installation, settle};
use super::messages::accepted_frame;
use super::report::Stage;
use super::scratch::Scratch;
use super::talk::Subscription;
use super::{ALL, ASRS};
use crate::error::CommandError;

/// How often the same frame is sent again.
const REPLAYS: u64 = 100;

/// Where a header holds what the stranger alters (protocol, section 5).
const TAG: usize = 4;
const EPOCH: std::ops::Range<usize> = 8..12;
const COUNTER: std::ops::Range<usize> = 20..24;

/// Replays frames and forges some; all must be refused, and none may stand in the way of a real one.
pub(super) fn replayed_and_forged(
    stage: &mut Stage,
    scratch: &Scratch,
    nodes: &[Installation<'_>],
    recorded: &[u8],
) -> Result<(), CommandError> {
    let (asr, _) = ASRS[0];
    let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
    settle(scratch, asr, &[a, b])?;
    let stranger = Stranger::new()?;
    let to_a = a.address()?;
    let to_b = b.address()?;
    let ear = Subscription::listen(scratch, b, asr)?;
    let watch = Subscription::watch(scratch, b)?;
    let first = "the one and only";
    a.send(asr, first)?;
    let frame = accepted_frame(scratch, &watch, OVERHEAD + first.len())?;
    stage.tell(&format!("the stranger recorded a frame of {} bytes that B accepted from A", frame.len()));

    let before = duplicates(b, asr)?;
    for _ in 0..REPLAYS {
        stranger.expect(scratch, &watch, &frame, to_b, "duplicate")?;
    }
    let counted = duplicates(b, asr)? - before;
    stage.check(counted == REPLAYS, &format!("replayed {REPLAYS} times: {counted} times duplicate"))?;
    let mut refused = counted;
    let mut shown = |what: &str, verdict: &str| {
        refused += 1;
        stage.passed(&format!("{what}: {verdict}"));
    };

    let mut flipped = frame.clone();
    raise(&mut flipped[COUNTER]);
    flipped[HEADER_LENGTH] ^= 1;
    stranger.expect(scratch, &watch, &flipped, to_b, "not-authentic")?;
    shown("a bit of the ciphertext flipped, under a counter not seen before", "not-authentic");

    let mut ahead = frame.clone();
    raise(&mut ahead[EPOCH]);
    stranger.expect(scratch, &watch, &ahead, to_b, "header-signature")?;
    shown("an epoch ahead, without the header key", "header-signature");

    let mut elsewhere = frame.clone();
    elsewhere[TAG] ^= 1;
    stranger.expect(scratch, &watch, &elsewhere, to_b, "unknown-tag")?;
    shown("the tag of no relationship", "unknown-tag");

    stranger.expect(scratch, &watch, b"no frame at all", to_b, "malformed")?;
    shown("no frame at all", "malformed");

    let watch_a = Subscription::watch(scratch, a)?;
    stranger.expect(scratch, &watch_a, &frame, to_a, "own-frame")?;
    shown("A's frame sent back to A", "own-frame");

    let watch_c = Subscription::watch(scratch, c)?;
    let ear_c = Subscription::listen(scratch, c, ALL)?;
    stranger.expect(scratch, &watch_c, recorded, c.address()?, "epoch-too-old")?;
    shown("what C accepted before the rotation and its restart, sent to it again", "epoch-too-old");

    let second = "and still heard";
    a.send(asr, second)?;
    let said = |text: &str| ("A".to_owned(), text.to_owned());
    let heard = [ear.message(scratch)?, ear.message(scratch)?];
    stage.check(
        heard == [said(first), said(second)] && ear.drain()?.is_empty() && ear_c.drain()?.is_empty(),
        "B heard A's two messages once each, and nothing else; C heard nothing",
    )?;
    let ear_a = Subscription::listen(scratch, a, asr)?;
    b.send(asr, "to you alone")?;
    let answered = ear_a.message(scratch)? == ("B".to_owned(), "to you alone".to_owned());
    let still = b.asr(asr)?.members.into_iter().find(|member| member.name == "A");
    let still = still.and_then(|member| member.endpoint) == Some(to_a.to_string());
    stage.check(answered && still, "B still sends to A where A is, not to the stranger")?;
    stage.fact("replays", json!(counted));
    stage.result(refused, "replayed and forged frames refused");
    Ok(())
}

/// Somebody with a socket of his own, who sees what is on the network.
struct Stranger {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Stranger {
    fn new() -> Result<Self, CommandError> {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// Sends a frame, which must have this fate.
    fn expect(
        &self,
        scratch: &Scratch,
        watch: &Subscription,
        frame: &[u8],
        to: SocketAddr,
        verdict: &str,
    ) -> Result<(), CommandError> {
        self.socket.send_to(frame, to).map_err(failed)?;
        let found = watch.verdict(scratch, frame, self.address)?;
        if found != verdict {
            let what = format!("a frame that should be refused as {verdict} was {found} instead");
            return Err(CommandError::failed(what));
        }
        Ok(())
    }
}

fn failed(error: std::io::Error) -> CommandError {
    CommandError::failed(format!("the stranger cannot send: {error}"))
}

fn duplicates(node: &Installation<'_>, asr: &str) -> Result<u64, CommandError> {
    Ok(node.asr(asr)?.rejected.get("duplicate").copied().unwrap_or(0))
}

/// The next number, big-endian.
fn raise(number: &mut [u8]) {
    for byte in number.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
}
