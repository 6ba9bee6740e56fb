//! Whose a frame is, and where frames go.

use core::time::Duration;

use akm_core::frame::{Class, Header};
use akm_core::sds::Tag;
use akm_core::secret::Secret;
use akm_core::session::Rejection;

use super::fixture::*;
use crate::{Input, Refused, Verdict, Wish};

/// Nodes 0 and 1, with an ASR, that have heard each other.
pub(super) fn pair() -> (Issued, [Plant; 2]) {
    let asr = issue(ASR, 1, 1, &[0, 1], None);
    let mut plants = [0, 1].map(|at| Plant::running(at, &asr));
    for _ in 0..2 {
        for at in 0..2 {
            plants[at].live(Duration::from_millis(2));
            for frame in plants[at].sent() {
                plants[1 - at].hears(at as u8, &frame);
            }
        }
    }
    for plant in &mut plants {
        plant.take_came();
    }
    (asr, plants)
}

#[test]
fn a_message_goes_to_the_endpoints_of_all_others_and_is_delivered() {
    let (_, [mut a, mut b]) = pair();
    a.says(b"light");
    let came = a.take_came();
    let [Came::Sent(to, frame), Came::Done(Wish(1), Ok(()))] = &came[..] else { panic!("{came:?}") };
    assert_eq!(to[..], [endpoint(1)]);
    b.hears(0, frame);
    assert_eq!(b.take_came(), [Came::Heard(b"light".to_vec()), Came::Seen(Verdict::Accepted)]);
}

#[test]
fn the_source_of_the_newest_frame_is_where_a_member_is_from_then_on() {
    let (asr, [mut a, mut b]) = pair();
    a.says(b"one");
    let before = a.sent().remove(0);
    a.says(b"two");
    let frame = a.sent().remove(0);
    b.hears(7, &frame);
    b.hears(8, &before);
    b.take_came();
    b.says(b"to whom");
    let came = b.take_came();
    assert!(matches!(&came[0], Came::Sent(to, _) if to[..] == [endpoint(7)]), "{came:?}");
    assert_eq!(b.disk[&(asr.sds.relationship(), 1)].endpoints[0], Some(endpoint(7)));
}

#[test]
fn a_frame_of_nobody_is_counted_and_wakes_nobody() {
    let (_, [mut a, _]) = pair();
    let mut frame = alloc::vec![0; 64];
    let header = Header { class: Class::Session, sender: 1, tag: Tag([7; 4]), epoch: 9, salt: 0, counter: 0 };
    header.write(&Secret::take(&mut [1; 16]), frame.first_chunk_mut().unwrap());
    a.hears(1, &frame);
    assert_eq!(a.take_came(), [Came::Seen(Verdict::Rejected(Rejection::UnknownTag))]);
    a.hears(1, b"no frame");
    assert_eq!(a.take_came(), [Came::Seen(Verdict::Rejected(Rejection::Malformed))]);
    assert_eq!(a.node.unclaimed(), 2);
    assert!(a.node.dropped(relationship(ASR)).is_empty());
}

#[test]
fn a_wish_for_what_is_not_held_is_refused() {
    let (_, [mut a, _]) = pair();
    for relationship in [relationship(0x33), relationship(0x80)] {
        a.input(Input::Advance { wish: Wish(5), relationship });
        assert_eq!(a.take_came(), [Came::Done(Wish(5), Err(Refused::NotHeld))]);
    }
    let body = b"to me";
    a.input(Input::Send { wish: Wish(6), relationship: relationship(ASR), to: Some(node_id(0)), body });
    assert_eq!(a.take_came(), [Came::Done(Wish(6), Err(Refused::NotAMember))]);
}
