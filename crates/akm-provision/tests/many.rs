//! A node may be in as many ASRs as memory holds.

mod support;

use support::plant::{Plant, wait_until};

const ASRS: usize = 200;

/// All the ways to choose two or more of four nodes, one after the other.
fn members_of(number: usize) -> Vec<&'static str> {
    let choices: Vec<Vec<&str>> = (0..16u8)
        .map(|bits| {
            let chosen = ["a", "b", "c", "d"].into_iter().enumerate();
            chosen.filter(|(at, _)| bits >> at & 1 == 1).map(|(_, name)| name).collect()
        })
        .filter(|chosen: &Vec<&str>| chosen.len() >= 2)
        .collect();
    choices[number % choices.len()].clone()
}

#[test]
fn two_hundred_asrs_on_four_nodes_survive_a_restart_of_all() {
    let nodes = ["a", "b", "c", "d"];
    let plant = Plant::with_nodes(&nodes);
    let name = |number: usize| format!("asr-{number}");
    for number in 0..ASRS {
        plant.akm(&[&["asr", "create", &name(number)], members_of(number).as_slice()].concat()).expect(0);
    }
    assert_eq!(plant.asrs().as_array().unwrap().len(), ASRS);

    for node in nodes {
        plant.kill(node);
    }
    for node in nodes {
        plant.start(node);
    }
    for node in nodes {
        let mine: Vec<usize> = (0..ASRS).filter(|number| members_of(*number).contains(&node)).collect();
        let status = plant.status(node);
        let held = status["relationships"].as_array().unwrap();
        assert_eq!(held.len(), mine.len() + 1, "its ASRs and its provisioning relationship");
        for number in mine {
            let entry = held.iter().find(|entry| entry["name"] == *name(number));
            let entry = entry.unwrap_or_else(|| panic!("{node} lost {}", name(number)));
            assert_eq!((&entry["phase"], &entry["kind"]), (&"Established".into(), &"communication".into()));
        }
        assert_eq!(status["damaged"].as_object().unwrap().len(), 0);
    }
    plant.akm(&["verify", "--all"]).expect(0);

    for number in [0, ASRS / 2, ASRS - 1] {
        let (asr, members) = (name(number), members_of(number));
        let (sender, others) = members.split_first().unwrap();
        wait_until("the members are in one epoch", || {
            others.iter().all(|other| plant.epoch(other, &asr) == plant.epoch(sender, &asr))
        });
        let listeners: Vec<_> = others.iter().map(|other| plant.listen(other, &asr, 1)).collect();
        plant.send(sender, &asr, &asr);
        for listener in listeners {
            assert_eq!(listener.texts(), [asr.as_str()]);
        }
    }
    let shown = plant.akm(&["asr", "show", &name(ASRS - 1), "--json"]).expect(0).json();
    assert!(shown["members"].as_array().unwrap().iter().all(|member| member["phase"] == "Established"));
}
