//! The JSON of answers, value by value: scripts rely on it.

use akm_core::id::AkmId;
use akm_core::management::RelationshipStatus;
use akm_core::session::Phase;
use akm_core::tree::NO_EPOCH;
use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::ceremony;
use crate::diagnosis::{Finding, OfPair};
use crate::error::{Error, Kind};
use crate::names::{Name, Timestamp};
use crate::relationship::{self, MemberReport, Work};
use crate::store::Absence;
use crate::store::fixture::{AT, Fixture, element};

fn json_of(answer: &impl Serialize) -> Value {
    serde_json::to_value(answer).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn refused(error: &Error) -> Refusal {
    Refusal { kind: error.kind(), error: error.to_string(), hints: vec!["look".to_owned()] }
}

fn unknown() -> Error {
    ceremony::Refusal::Unknown { name: name("b") }.into()
}

/// What a face shows of [`unknown`], with what else stands beside it.
fn unknown_beside(mut beside: Value) -> Value {
    beside["kind"] = json!("no-node");
    beside["error"] = json!("there is no node b");
    beside["hints"] = json!(["look"]);
    beside
}

fn standing_at(fixture: &Fixture, phase: Phase) -> RelationshipStatus {
    RelationshipStatus {
        relationship: fixture.create_node("b").relationship,
        generation: 3,
        epoch: NO_EPOCH,
        run: 1,
        phase,
        element_version: 1,
        highest: 3,
        found_back: 0,
    }
}

#[test]
fn a_refusal_is_its_kind_what_happened_and_the_ways_out() {
    let refusal = Refusal { kind: Kind::Held, error: "held".to_owned(), hints: Vec::new() };
    assert_eq!(json_of(&refusal), json!({ "kind": "held", "error": "held", "hints": [] }));
}

#[test]
fn the_root_is_the_first_of_the_nodes_and_lacks_what_only_nodes_have() {
    let fixture = Fixture::new();
    let node = fixture.active_node("a");
    let module = fixture.store.module();
    let list = json_of(&Nodes::of(&fixture.store).unwrap());
    let root = json!({
        "name": module.name.as_str(),
        "akm_id": module.root.to_string(),
        "provisioning_relationship_id": null,
        "status": "root",
        "target": null,
        "endpoint": null,
        "created_at": module.created_at.to_string(),
    });
    assert_eq!(list[0], root);
    assert_eq!(list[1], json_of(&Node::from(&node)));
    assert_eq!(list.as_array().unwrap().len(), 2);
}

#[test]
fn a_node_says_null_where_nothing_is_known() {
    let fixture = Fixture::new();
    let known = fixture.create_node("a");
    let expected = json!({
        "name": "a",
        "akm_id": known.id.to_string(),
        "provisioning_relationship_id": known.relationship.to_string(),
        "status": "provisioning",
        "target": known.target.to_string(),
        "endpoint": known.endpoint.as_ref().map(ToString::to_string),
        "listen": known.listen.map(|listen| listen.to_string()),
        "element": known.element_spec.to_string(),
        "element_description": null,
        "element_spec": known.element_spec.to_string(),
        "stack_version": null,
        "integrity_code": null,
        "created_at": AT.to_string(),
        "verified_at": null,
    });
    assert_eq!(json_of(&Node::from(&known)), expected);

    let description = element("77");
    let known = crate::store::Node {
        element: Some(description.clone()),
        integrity_code: Some([0xab; 32]),
        endpoint: None,
        ..known
    };
    let said = json_of(&Node::from(&known));
    assert_eq!(said["integrity_code"], json!("ab".repeat(32)));
    assert_eq!(said["endpoint"], Value::Null);
    assert_eq!(said["element_description"], json_of(&Element::from(&description)));
    assert_eq!(said["element"], json!(Element::from(&description).line()));
}

#[test]
fn a_node_that_was_not_asked_and_one_that_refused_are_told_apart() {
    let fixture = Fixture::new();
    let node = fixture.active_node("a");
    let shown =
        |held| json_of(&NodeShown::of(&fixture.store, &node, held).unwrap().refused_as(|e| refused(&e)));
    assert_eq!(shown(None)["at_node"], Value::Null);
    assert_eq!(shown(Some(Err(unknown())))["at_node"], unknown_beside(json!({})));

    let status = standing_at(&fixture, Phase::WithoutPlace);
    let held = json!({ "relationships": [{
        "relationship_id": status.relationship.to_string(),
        "name": status.relationship.to_string(),
        "generation": 3,
        "epoch": null,
        "run": 1,
        "phase": "WithoutPlace",
        "rests": "its place there is lost",
    }]});
    let said = shown(Some(Ok(vec![status])));
    assert_eq!(said["at_node"], held);
    assert_eq!((&said["name"], &said["asrs"], &said["journal"]), (&json!("a"), &json!([]), &json!([])));
    assert_eq!(said.get("is_filled"), None);
}

#[test]
fn members_stand_by_name_each_with_what_it_says_or_why_it_could_not_be_asked() {
    let fixture = Fixture::new();
    let status = RelationshipStatus { epoch: 7, ..standing_at(&fixture, Phase::Established) };
    let [one, other] = ["z", "c"].map(|name| fixture.create_node(name));
    let ids = [one.id, other.id].map(|id| id.to_string());
    let reports = vec![
        MemberReport { node: one, status: Ok(status) },
        MemberReport { node: other, status: Err(unknown()) },
    ];
    let said = Members::of(&fixture.store, &name("line"), reports).unwrap().refused_as(|e| refused(&e));
    let well = json!({
        "node": "z", "akm_id": ids[0], "generation": 3, "epoch": 7, "run": 1, "phase": "Established", "rests": null,
    });
    let away = unknown_beside(json!({ "node": "c", "akm_id": ids[1] }));
    let expected =
        json!({ "asr": "line", "relationship_id": "", "status": "ended", "members": [away, well] });
    assert_eq!(json_of(&said), expected);
}

#[test]
fn places_that_were_taken_say_so_and_others_why_not() {
    let places = [(name("one"), Ok(())), (name("two"), Err(unknown()))].map(PlaceTaken::from);
    let fixture = Fixture::new();
    let node = Node::from(&fixture.create_node("n"));
    let step = Step {
        number: 1,
        name: "create",
        duration: std::time::Duration::from_micros(1_234_567),
        outcome: "made".to_owned(),
    };
    let replaced = Replaced { old: name("old"), node: node.clone(), steps: vec![step], asrs: places.into() };
    let expected = json!({
        "old": "old",
        "node": json_of(&node),
        "steps": [{ "number": 1, "name": "create", "milliseconds": 1234, "outcome": "made" }],
        "asrs": [
            { "asr": "one", "replaced": true },
            unknown_beside(json!({ "asr": "two", "replaced": false })),
        ],
    });
    assert_eq!(json_of(&replaced.refused_as(|error| refused(&error))), expected);
}

#[test]
fn a_node_that_did_not_prove_who_it_is_says_why() {
    let fixture = Fixture::new();
    let node = fixture.create_node("a");
    let failed = Verification::of(&fixture.store, &node, Err(unknown())).unwrap();
    let expected = unknown_beside(json!({ "node": "a", "verified": false }));
    assert_eq!(json_of(&failed.refused_as(|error| refused(&error))), expected);
}

#[test]
fn parked_work_says_when_it_is_tried_again_once_it_was_tried() {
    let fixture = Fixture::new();
    let node = fixture.create_node("a");
    let absence = Absence {
        node: node.id,
        since: AT,
        tried_at: Timestamp::from_unix_millis(0),
        tries: 1,
        reason: "no route".to_owned(),
    };
    let asr = name("line");
    let task =
        |work, absence| relationship::Task { node: node.clone(), asr: asr.clone(), work, since: AT, absence };
    let expected = json!({
        "node": "a",
        "akm_id": node.id.to_string(),
        "asr": "line",
        "work": "install",
        "generation": 2,
        "since": AT.to_string(),
        "away_since": AT.to_string(),
        "tries": 1,
        "reason": "no route",
        "next_try": "1970-01-01T00:00:30.000Z",
    });
    assert_eq!(json_of(&Task::from(task(Work::Install(2), Some(absence)))), expected);
    let never_tried = json_of(&Task::from(task(Work::Wait(2), None)));
    assert_eq!((&never_tried["work"], &never_tried["tries"]), (&json!("activate"), &json!(0)));
    for absent in ["away_since", "reason", "next_try"] {
        assert_eq!(never_tried[absent], Value::Null, "{absent}");
    }
    assert_eq!(json_of(&Task::from(task(Work::Erase, None)))["generation"], Value::Null);
}

#[test]
fn elements_say_what_they_are_and_what_to_mind() {
    let spec: akm_element::ElementSpec = "software".parse().unwrap();
    let shown = json_of(&ElementShown::new(spec.clone(), &element("77")));
    let mut expected = json_of(&Element::from(&element("77")));
    expected["element"] = json!("software");
    expected["warning"] = json!(Element::from(&element("77")).warning());
    assert_eq!(shown, expected);
    let check =
        |name: &str, error: Option<&str>| Check { check: name.to_owned(), error: error.map(str::to_owned) };
    let test = ElementTest {
        element: spec,
        passed: false,
        checks: vec![check("one", None), check("two", Some("no"))],
    };
    let expected = json!({
        "element": "software",
        "passed": false,
        "checks": [{ "check": "one", "error": null }, { "check": "two", "error": "no" }],
    });
    assert_eq!(json_of(&test), expected);
    let listed =
        akm_element::Listed { spec: "tpm".to_owned(), identity: None, obstacle: Some("away".to_owned()) };
    let expected = json!({
        "element": "tpm", "manufacturer": null, "serial": null, "protection": null, "obstacle": "away",
    });
    assert_eq!(json_of(&ListedElement::from(listed)), expected);
}

#[test]
fn the_module_says_who_it_is_and_what_opens_its_vault() {
    let fixture = Fixture::new();
    let module = fixture.store.module();
    let expected = json!({
        "module": module.name.as_str(),
        "akm_id": AkmId::to_string(&module.root),
        "home": fixture.store.home().to_string_lossy(),
        "vault": "key file",
    });
    assert_eq!(json_of(&Module::of(&fixture.store)), expected);
}

#[test]
fn a_cause_has_its_name_and_stands_in_the_words_of_the_face() {
    let finding = Finding::Pair { nodes: [name("a"), name("b")], trouble: OfPair::NoCommonAsr };
    let cause = CauseShown::new(&finding, "they are in none".to_owned(), "make one".to_owned());
    let expected = json!({
        "nodes": ["a", "b"],
        "causes": [{
            "cause": "no common relationship",
            "asr": null,
            "what": "they are in none",
            "to_do": "make one",
        }],
    });
    assert_eq!(json_of(&Diagnosis { nodes: [name("a"), name("b")], causes: vec![cause] }), expected);
}
