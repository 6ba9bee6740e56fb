//! The main job as a user does it: from nothing to messages in all directions.

mod support;

use support::plant::{Plant, wait_until};

#[test]
fn from_nothing_to_messages_in_all_directions() {
    let plant = Plant::with_nodes(&["a", "b", "c"]);
    plant.akm(&["verify", "--all"]).expect(0);
    plant.akm(&["asr", "create", "line", "a", "b", "c"]).expect(0);
    for sender in ["a", "b", "c"] {
        let others: Vec<_> = ["a", "b", "c"]
            .into_iter()
            .filter(|name| *name != sender)
            .map(|name| plant.listen(name, "line", 1))
            .collect();
        plant.send(sender, "line", "hello");
        for listener in others {
            let lines = listener.lines();
            assert_eq!(lines[0]["from_name"], sender);
        }
    }
    wait_until("all have heard all", || {
        ["a", "b", "c"].iter().all(|name| {
            let relationship = plant.relationship(name, "line");
            let members = relationship["members"].as_array().unwrap().clone();
            members.iter().all(|member| member["this"] == true || !member["heard_seconds_ago"].is_null())
        })
    });
}
