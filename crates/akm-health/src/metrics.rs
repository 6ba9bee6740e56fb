//! Metrics in the text format of Prometheus.

use std::fmt::Write;

/// What the values of a family do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow, until the program starts anew.
    Counter,
    /// They rise and fall.
    Gauge,
}

/// A page of metrics that is being written.
#[derive(Debug, Default)]
pub struct Metrics(String);

impl Metrics {
    /// Adds a family: each of its values by its labels, which stand in braces or are empty.
    pub fn add(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// A label as it stands between the braces, whatever is in its value.
pub fn label(name: &str, value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("{name}=\"{value}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_stands_under_its_name_and_a_value_cannot_end_its_line() {
        let mut metrics = Metrics::default();
        let labels = format!("{{{}}}", label("node", "a\"b\\\nc"));
        metrics.add("akm_parked", Kind::Gauge, "What waits.", [(labels, 3), (String::new(), 4)]);
        assert_eq!(
            metrics.into_text(),
            "# HELP akm_parked What waits.\n# TYPE akm_parked gauge\nakm_parked{node=\"a\\\"b\\\\\\nc\"} 3\nakm_parked 4\n"
        );
    }
}
