//! Nuitka's report (`--report`): what each module cost, and what the program is made of. Pure.
//!
//! Source of the format: `nuitka/reports/Reports.py` of Nuitka 4.3. What a version does not write counts as nothing.

use kiln_graph::Platform;
use kiln_history::Record;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

/// What a report says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NuitkaReport {
    /// Version of Nuitka.
    pub version: String,
    /// Its modules, in its order.
    pub modules: Vec<Module>,
    /// Bytes of bytecode and constants in the program.
    pub constants: u64,
    /// Bytes of the program before it is packed.
    pub program: u64,
    /// Seconds of processor time that linking took.
    pub linking: f64,
}

/// One module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Whether it is compiled to C rather than kept as bytecode.
    pub compiled: bool,
    /// Seconds of optimisation, all passes.
    pub optimization: f64,
    /// Seconds of code generation.
    pub generation: f64,
    /// Seconds of processor time that the C compiler took.
    pub compilation: f64,
    /// Bytes of its object file; 0 without one.
    pub object: u64,
    /// What the compiler cache answered: `cache hit`, `cache miss`.
    pub ccache: Option<String>,
}

impl Module {
    /// All seconds.
    pub fn seconds(&self) -> f64 {
        self.optimization + self.generation + self.compilation
    }
}

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NuitkaError {
    /// It is no XML.
    #[error("it is damaged at byte {at}")]
    Damaged {
        /// Where.
        at: u64,
        /// Why.
        #[source]
        source: quick_xml::Error,
    },
    /// It is another XML, or incomplete.
    #[error("it is no report of Nuitka, or not a whole one")]
    Other,
}

/// The root element.
const ROOT: &str = "nuitka-compilation-report";

impl NuitkaReport {
    /// Reads a report.
    pub fn parse(xml: &str) -> Result<Self, NuitkaError> {
        let mut reader = Reader::from_str(xml);
        let mut report = Self::default();
        let (mut inside, mut whole) = (None::<Module>, false);
        loop {
            let event = reader.read_event();
            let event = event.map_err(|source| NuitkaError::Damaged { at: reader.error_position(), source })?;
            match event {
                Event::Start(element) if element.name().0 == ROOT => report.version = text(&element, "nuitka_version"),
                Event::Start(element) if element.name().0 == "module" => inside = Some(module(&element)),
                Event::Start(element) | Event::Empty(element) => match &mut inside {
                    Some(module) => module.take(&element),
                    None => report.take(&element),
                },
                Event::End(element) if element.name().0 == "module" => report.modules.extend(inside.take()),
                Event::End(element) => whole |= element.name().0 == ROOT,
                Event::Eof if whole => return Ok(report),
                Event::Eof => return Err(NuitkaError::Other),
                _ => {}
            }
        }
    }

    /// The modules that cost most, the slowest first.
    pub fn slowest(&self, most: usize) -> Vec<&Module> {
        let mut modules: Vec<&Module> = self.modules.iter().filter(|module| module.seconds() > 0.0).collect();
        modules.sort_by(|a, b| b.seconds().total_cmp(&a.seconds()).then_with(|| a.name.cmp(&b.name)));
        modules.truncate(most);
        modules
    }

    /// An element that belongs to no module.
    fn take(&mut self, element: &BytesStart<'_>) {
        match element.name().0 {
            "data_composer" => self.constants = number(element, "blob_size"),
            "python_binary" => self.program = number(element, "size"),
            "c-linking-time" => self.linking = cpu(element),
            _ => {}
        }
    }
}

impl Module {
    /// An element inside of it.
    fn take(&mut self, element: &BytesStart<'_>) {
        match element.name().0 {
            "optimization-time" => self.optimization += seconds(element, "time"),
            "code-generation-time" => self.generation += seconds(element, "time"),
            "cpu" => self.compilation += cpu(element),
            "object-file" => self.object = number(element, "size"),
            "c-cache" => self.ccache = Some(text(element, "result")).filter(|result| !result.is_empty()),
            _ => {}
        }
    }
}

fn module(element: &BytesStart<'_>) -> Module {
    let compiled =
        matches!(text(element, "kind").as_str(), "CompiledPythonModule" | "CompiledPythonPackage" | "PythonMainModule");
    Module { name: text(element, "name"), compiled, ..Module::default() }
}

/// An attribute; empty where it is missing or no text.
fn text(element: &BytesStart<'_>, name: &str) -> String {
    let attribute = element.try_get_attribute(name).ok().flatten();
    let value = attribute.and_then(|attribute| {
        attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(std::borrow::Cow::into_owned)
    });
    value.unwrap_or_default()
}

fn number(element: &BytesStart<'_>, name: &str) -> u64 {
    text(element, name).parse().unwrap_or_default()
}

fn seconds(element: &BytesStart<'_>, name: &str) -> f64 {
    text(element, name).parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0).unwrap_or_default()
}

fn cpu(element: &BytesStart<'_>) -> f64 {
    seconds(element, "user-cpu-time") + seconds(element, "system-cpu-time")
}

/// The build that a report comes from which was written at a moment, in milliseconds since 1970: the latest before it
/// that compiled for this platform. Records come newest first.
pub fn made_by(records: &[Record], platform: Platform, written: i64) -> Option<&Record> {
    records.iter().find(|record| {
        // Only a step that compiles tells of phases.
        record.started <= written
            && record.steps_of(platform).any(|step| !step.cached && step.phases.iter().any(is_nuitkas))
    })
}

/// Whether Nuitka is what is at work in a phase.
fn is_nuitkas(phase: &kiln_history::record::Phase) -> bool {
    matches!(
        phase.name.as_str(),
        "Python" | "generating C" | "C compile" | "link" | "payload" | "bootstrap" | "reports"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn what_modules_cost() {
        let report = NuitkaReport::parse(fixture::REPORT).unwrap();
        assert_eq!((report.version.as_str(), report.constants, report.program), ("4.3.3", 7_848_958, 15_949_144));
        assert!((report.linking - 5.0588).abs() < 1e-9);
        let names: Vec<&str> = report.slowest(9).iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["__main__", "greeting<b>", "json"]);
        let main = report.slowest(1)[0];
        assert!((main.seconds() - 0.5061).abs() < 1e-9, "{main:?}");
        assert_eq!((main.compiled, main.object, main.ccache.as_deref()), (true, 278_848, Some("cache miss")));
        assert!(!report.modules[0].compiled);
    }

    #[test]
    fn what_is_no_report_is_an_error() {
        for text in ["", "<other/>", "<nuitka-compilation-report>", "<a></b>", "no XML at all", &fixture::REPORT[..900]]
        {
            assert!(NuitkaReport::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_report_belongs_to_the_build_that_compiled() {
        let records = fixture::history();
        let platform = records[0].targets[0].platform;
        let end = |record: &Record| record.started + 100_000;
        assert_eq!(made_by(&records, platform, end(&records[0])).map(|r| &r.id), Some(&records[0].id));
        assert_eq!(made_by(&records, platform, records[0].started - 1).map(|r| &r.id), Some(&records[1].id));
        let mut cached = records.clone();
        cached[0].steps.iter_mut().for_each(|step| step.cached = true);
        assert_eq!(made_by(&cached, platform, end(&records[0])).map(|r| &r.id), Some(&records[1].id));
        assert_eq!(made_by(&records, platform, 0), None);
    }
}
