//! A frame costs no memory of its own: what a session once asked for serves all further frames.

use akm_bench::allocations::{Counting, asked};
use akm_bench::duo::Duo;
use akm_core::crypto::{AWS_LC, CryptoProvider, PORTABLE, Suite};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const FRAMES: u32 = 500;

/// Says how often memory was asked for while `work` was done.
fn during(work: impl FnOnce()) -> u64 {
    let before = asked();
    work();
    asked() - before
}

#[test]
fn the_allocator_counts() {
    assert_eq!(during(|| drop(std::hint::black_box(Box::new(7)))), 1);
    assert_eq!(during(|| drop(std::hint::black_box(vec![0; 100]))), 1);
    assert_eq!(during(|| ()), 0);
}

#[test]
fn sealing_and_opening_ask_for_no_memory_once_the_first_frame_has_passed() {
    let providers: [(&str, &'static dyn CryptoProvider); 2] = [("aws-lc", AWS_LC), ("portable", PORTABLE)];
    for (name, provider) in providers {
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            for length in [0, 64, 1400] {
                let case = format!("{name}, {suite:?}, {length} bytes");
                let duo = Duo::new(provider, suite);
                let mut sender = duo.member(0, duo.first_place());
                let mut receiver = duo.member(1, duo.first_place());
                let body = vec![0x61; length];
                let first = sender.frame(&body).unwrap();
                receiver.hear(&first, |payload| assert_eq!(payload, body)).unwrap();

                let mut frames: Vec<Vec<u8>> = (0..FRAMES).map(|_| first.clone()).collect();
                let sealing = during(|| {
                    for frame in &mut frames {
                        sender.send(&body, |sealed| frame.copy_from_slice(sealed)).unwrap();
                    }
                });
                assert_eq!(sealing, 0, "sealing: {case}");

                let opening = during(|| {
                    for frame in &frames {
                        receiver.hear(frame, |payload| assert_eq!(payload, body)).unwrap();
                    }
                });
                assert_eq!(opening, 0, "opening: {case}");
                assert_eq!(receiver.delivered(), u64::from(1 + FRAMES), "{case}");

                let refusing = during(|| {
                    for frame in &mut frames {
                        receiver.hear(frame, |_| panic!("delivered twice: {case}")).unwrap();
                        let last = frame.len() - 1;
                        frame[last] ^= 1;
                        receiver.hear(frame, |_| panic!("forged: {case}")).unwrap();
                    }
                });
                assert_eq!(refusing, 0, "refusing replays and forgeries: {case}");
            }
        }
    }
}
