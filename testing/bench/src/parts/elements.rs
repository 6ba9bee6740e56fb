//! Secure elements against the one in software: the element function, and a whole ceremony.

use std::path::Path;
use std::time::Duration;

use crate::elements::Element;
use crate::error::BenchError;
use crate::module::Module;
use crate::report::Row;
use crate::rounds::{Effort, in_turn};

const PART: &str = "elements";

/// How each kind is started; none runs beside another.
const KINDS: [fn() -> Result<Element, BenchError>; 3] = [Element::tpm, Element::token, Element::card];

/// How many F a row tells the time of.
const FUNCTIONS: u32 = 1_000;

/// About how long one measurement of F goes on.
const STRETCH: Duration = Duration::from_millis(300);

pub(super) fn run(effort: Effort, scratch: &Path) -> Result<Vec<Row>, BenchError> {
    let effort = effort.share(2 * KINDS.len());
    let software = Element::software();
    let mut module = Module::new(scratch)?;
    let mut rows = Vec::new();
    for start in KINDS {
        let element = start()?;
        rows.push(functions(effort, scratch, &element, &software)?);
        rows.push(ceremony(effort, &mut module, &element, &software)?);
    }
    Ok(rows)
}

fn functions(
    effort: Effort,
    scratch: &Path,
    element: &Element,
    software: &Element,
) -> Result<Row, BenchError> {
    let measure = |element| {
        let count = enough(effort, scratch, element)?;
        Ok::<_, BenchError>(move || Ok(element.functions(scratch, count)? * FUNCTIONS / count))
    };
    let comparison = in_turn(effort, 5, measure(element)?, measure(software)?)?.comparison();
    let per_second = |seconds: f64| f64::from(FUNCTIONS) / seconds;
    let name = element.name;
    Ok(Row::of(PART, format!("{FUNCTIONS} F in {name}"), format!("in {}", software.name), comparison)
        .with_fact("F per second", per_second(comparison.a.median))
        .with_fact("F per second in software", per_second(comparison.b.median)))
}

/// So many F that measuring them takes long enough.
fn enough(effort: Effort, scratch: &Path, element: &Element) -> Result<u32, BenchError> {
    const FIRST: u32 = 20;
    let took = element.functions(scratch, FIRST)?;
    let stretches = STRETCH.as_secs_f64() / took.as_secs_f64().max(1e-9);
    Ok(effort.size((f64::from(FIRST) * stretches).clamp(f64::from(FIRST), 5_000_000.0) as u32, FIRST))
}

fn ceremony(
    effort: Effort,
    module: &mut Module,
    element: &Element,
    software: &Element,
) -> Result<Row, BenchError> {
    let module = std::cell::RefCell::new(module);
    let measure = |element| {
        let module = &module;
        move || module.borrow_mut().ceremony_with(element)
    };
    // The first one is slower.
    measure(element)()?;
    let comparison = in_turn(effort, 5, measure(element), measure(software))?.comparison();
    let name = element.name;
    Ok(Row::of(
        PART,
        format!("a whole local ceremony with {name}"),
        format!("with {}", software.name),
        comparison,
    )
    .with_fact("milliseconds a ceremony", comparison.a.median * 1e3)
    .with_fact("milliseconds a ceremony in software", comparison.b.median * 1e3))
}
