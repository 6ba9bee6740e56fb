//! Carriers over the loopback of this machine.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::*;

const LOCALHOSTS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn carrier(ip: IpAddr) -> UdpCarrier {
    UdpCarrier::new(UdpSocket::bind((ip, 0)).unwrap()).unwrap()
}

/// Where a carrier is reached, at an address of this machine.
fn endpoint_at(carrier: &UdpCarrier, ip: IpAddr) -> Endpoint {
    SocketAddr::new(ip, carrier.socket.local_addr().unwrap().port()).into()
}

fn batch<'a>(frames: impl IntoIterator<Item = (Endpoint, &'a [u8])>) -> Batch {
    let mut batch = Batch::new();
    for (to, frame) in frames {
        batch.push(to, frame);
    }
    batch
}

fn send(carrier: &mut UdpCarrier, batch: &Batch) {
    carrier.send(batch, &mut |to, error| panic!("lost on the way to {to}: {error}"));
}

/// Waits until as many frames are there.
fn receive(carrier: &mut UdpCarrier, count: usize) -> Vec<(Endpoint, Vec<u8>)> {
    let mut frames = Vec::new();
    let give_up = Instant::now() + Duration::from_secs(30);
    while frames.len() < count {
        assert!(Instant::now() < give_up, "{} of {count} frames came", frames.len());
        if carrier.receive(&mut |from, frame| frames.push((from, frame.to_vec()))).unwrap() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    frames
}

fn frame(number: usize, length: usize) -> Vec<u8> {
    let mut frame = vec![number as u8; length];
    frame[0] = (number >> 8) as u8;
    frame
}

#[test]
fn a_batch_arrives_whole_and_in_order_in_both_families() {
    for ip in LOCALHOSTS {
        let (mut here, mut there) = (carrier(ip), carrier(ip));
        let frames: Vec<_> =
            (0..200).map(|number| frame(number, 300 + usize::from(number % 7 == 0))).collect();
        let to = there.local_endpoint().unwrap();
        send(&mut here, &batch(frames.iter().map(|frame| (to, &frame[..]))));
        let from = here.local_endpoint().unwrap();
        let received = receive(&mut there, frames.len());
        assert!(received.iter().all(|(source, _)| *source == from));
        assert_eq!(received.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>(), frames);
        assert_eq!(there.receive(&mut |_, _| panic!("a frame more")).unwrap(), 0);
    }
}

#[test]
fn frames_for_several_endpoints_go_to_each_in_their_order() {
    let ip = LOCALHOSTS[0];
    let mut here = carrier(ip);
    let mut there = [carrier(ip), carrier(ip), carrier(ip)];
    let ends: Vec<_> = there.iter().map(|carrier| carrier.local_endpoint().unwrap()).collect();
    let frames: Vec<_> = (0..60).map(|number| frame(number, 100)).collect();
    send(&mut here, &batch(frames.iter().enumerate().map(|(number, frame)| (ends[number % 3], &frame[..]))));
    for (number, carrier) in there.iter_mut().enumerate() {
        let received: Vec<_> = receive(carrier, 20).into_iter().map(|(_, frame)| frame).collect();
        let expected: Vec<_> = frames.iter().skip(number).step_by(3).cloned().collect();
        assert_eq!(received, expected);
    }
}

#[test]
fn one_call_hands_over_no_more_than_a_burst() {
    let ip = LOCALHOSTS[0];
    let (mut here, mut there) = (carrier(ip), carrier(ip));
    let to = there.local_endpoint().unwrap();
    let frames: Vec<_> = (0..3 * BURST).map(|number| frame(number, 64)).collect();
    send(&mut here, &batch(frames.iter().map(|frame| (to, &frame[..]))));
    let mut received = Vec::new();
    while received.len() < frames.len() {
        let count = there.receive(&mut |_, frame| received.push(frame.to_vec())).unwrap();
        assert!(count <= there.capabilities().burst);
    }
    assert_eq!(received, frames);
}

#[test]
fn the_longest_datagram_goes_and_a_longer_one_is_lost_alone() {
    for ip in LOCALHOSTS {
        let (mut here, mut there) = (carrier(ip), carrier(ip));
        let to = there.local_endpoint().unwrap();
        let (longest, too_long) = (vec![1; here.capabilities().frame_max], vec![2; BUFFER_LENGTH]);
        let mut lost = Vec::new();
        here.send(
            &batch([(to, &b"first"[..]), (to, &too_long), (to, &longest), (to, b"last")]),
            &mut |to, error| {
                lost.push((to, error.raw_os_error()));
            },
        );
        assert_eq!(lost, [(to, Some(libc::EMSGSIZE))]);
        let received: Vec<_> = receive(&mut there, 3).into_iter().map(|(_, frame)| frame).collect();
        assert_eq!(received, [b"first".to_vec(), longest, b"last".to_vec()]);
    }
}

#[test]
fn an_empty_datagram_is_an_empty_frame() {
    let mut there = carrier(LOCALHOSTS[0]);
    let stranger = UdpSocket::bind((LOCALHOSTS[0], 0)).unwrap();
    stranger.send_to(b"", there.socket.local_addr().unwrap()).unwrap();
    stranger.send_to(b"next", there.socket.local_addr().unwrap()).unwrap();
    let received: Vec<_> = receive(&mut there, 2).into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(received, [b"".to_vec(), b"next".to_vec()]);
}

#[test]
fn an_answer_leaves_from_the_address_at_which_it_was_asked_for() {
    // All of 127.0.0.0/8 is this machine; the system would answer from 127.0.0.1.
    let asked = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
    for everywhere in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let (mut node, mut other) = (carrier(everywhere), carrier(LOCALHOSTS[0]));
        let node_endpoint = endpoint_at(&node, asked);
        send(&mut other, &batch([(node_endpoint, &b"question"[..])]));
        let (from, _) = receive(&mut node, 1).remove(0);
        for to in [from, other.local_endpoint().unwrap()] {
            send(&mut node, &batch([(to, &b"answer"[..]), (to, b"beside"), (to, b"third.")]));
            assert!(receive(&mut other, 3).iter().all(|(source, _)| *source == node_endpoint));
        }
    }
}

#[test]
fn an_address_that_is_ours_no_more_is_not_insisted_upon() {
    let (mut node, mut other) = (carrier(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), carrier(LOCALHOSTS[0]));
    let other_address = other.socket.local_addr().unwrap();
    let gone = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    node.ways_back.as_mut().unwrap().learn(other_address, Some(gone));
    send(&mut node, &batch([(other_address.into(), &b"answer"[..])]));
    let (from, _) = receive(&mut other, 1).remove(0);
    assert_eq!(from, endpoint_at(&node, LOCALHOSTS[0]));
    assert_eq!(node.ways_back.as_ref().unwrap().of(other_address), None);
}

#[test]
fn the_cutting_by_ip_stays_as_the_system_has_it() {
    for ip in LOCALHOSTS {
        let plain = UdpSocket::bind((ip, 0)).unwrap();
        let carrier = carrier(ip);
        let v4 = |socket| rustix::net::sockopt::ip_mtu_discover(socket).unwrap();
        assert_eq!(v4(&plain), v4(&carrier.socket));
    }
}
