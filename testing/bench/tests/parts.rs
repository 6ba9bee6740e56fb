//! Each part runs, at its smallest sizes, and says what it found.

use std::process::{Command, Stdio};

use akm_bench::parts::PARTS;
use serde_json::Value;

/// Runs the benchmark; returns what it printed and its report.
fn measure(arguments: &[&str]) -> (String, Value) {
    let scratch = tempfile::tempdir().expect("a directory for the test");
    let json = scratch.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_akm-bench"))
        .args(arguments)
        .args(["--brief", "--json"])
        .arg(&json)
        .arg("--scratch")
        .arg(scratch.path())
        .stdin(Stdio::null())
        .output()
        .expect("the benchmark can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read_to_string(&json).expect("the report was written");
    std::fs::remove_file(&json).expect("it is there");
    let left: Vec<_> = std::fs::read_dir(scratch.path()).expect("it is there").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    let table = String::from_utf8(output.stdout).expect("text");
    (table, serde_json::from_str(&report).expect("JSON"))
}

fn is_spread(spread: &Value) -> bool {
    let [min, median, max] = ["min", "median", "max"].map(|name| spread[name].as_f64().expect("a number"));
    0.0 < min && min <= median && median <= max
}

#[test]
fn every_part_yields_rows_of_ratios_and_the_machine_is_described() {
    let (table, report) = measure(&[]);
    let machine = report["machine"].as_object().unwrap();
    assert!(machine["processors"].as_u64().unwrap() > 0);
    for name in ["processor", "kernel", "rustc", "scratch_filesystem"] {
        assert!(!machine[name].as_str().unwrap().is_empty(), "{name}");
    }
    let host = rustix::system::uname();
    let host = host.nodename().to_str().unwrap();
    assert!(
        machine.values().all(|value| value.as_str() != Some(host)),
        "the machine is described, not named"
    );

    let rows = report["rows"].as_array().unwrap();
    for part in PARTS {
        let of_part: Vec<_> = rows.iter().filter(|row| row["part"] == part.name).collect();
        assert!(!of_part.is_empty(), "{} yields nothing", part.name);
        for row in of_part {
            for spread in ["ratio", "a", "b"] {
                assert!(is_spread(&row[spread]), "{spread} of {row:#}");
            }
            assert_eq!(row["rounds"], 1);
            let (what, against) = (row["what"].as_str().unwrap(), row["against"].as_str().unwrap());
            assert!(table.contains(&format!("{what} : {against}")), "{what} is not in\n{table}");
        }
    }
}

#[test]
fn a_part_runs_alone() {
    let (_, report) = measure(&["epochs"]);
    let rows = report["rows"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["part"] == "epochs"), "{report:#}");
}
