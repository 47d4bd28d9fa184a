//! Nuitka's slowest modules.

use maud::{Markup, html};

use super::{bytes, scroll, seconds, share};
use crate::nuitka::Module;
use crate::{Modules, Report, text};

/// Modules that are listed per platform.
const MOST: usize = 15;

pub(super) fn section(report: &Report<'_>) -> Option<Markup> {
    let with_times: Vec<&Modules> =
        report.extras.modules.iter().filter(|modules| !modules.report.slowest(1).is_empty()).collect();
    if with_times.is_empty() {
        return None;
    }
    Some(html! {
        p class="faint" {
            "What Nuitka and the C compiler spent on each module: seconds of optimisation and code generation, and of the C "
            "compiler's processor time. Modules of the standard library are optimised, too, and kept as bytecode."
        }
        @for (index, modules) in with_times.iter().enumerate() {
            details open[index == 0] {
                summary { (modules.platform) (origin(modules)) }
                (scroll(&format!("Slowest modules for {}", modules.platform), &table(modules)))
            }
        }
    })
}

/// Of which build the times are, if that is another one.
fn origin(modules: &Modules) -> Markup {
    html! {
        @if let Some(build) = &modules.of_build {
            span class="faint" { ", as build " code { (text::line(build, 60)) } " compiled it" }
        }
        @if !modules.report.version.is_empty() { span class="faint" { ", Nuitka " (text::line(&modules.report.version, 20)) } }
    }
}

fn table(modules: &Modules) -> Markup {
    let slowest = modules.report.slowest(MOST);
    let longest = slowest.first().map_or(0.0, |module| module.seconds());
    let all: f64 = modules.report.modules.iter().map(Module::seconds).sum();
    let count = modules.report.modules.iter().filter(|module| module.seconds() > 0.0).count();
    html! {
        table class="modules" {
            thead {
                tr {
                    th scope="col" { "module" } th scope="col" class="wide-bar" { span class="hidden" { "share" } }
                    th scope="col" class="num" { "all" } th scope="col" class="num" { "optimised" }
                    th scope="col" class="num" { "C written" } th scope="col" class="num" { "C compiled" }
                    th scope="col" class="num" { "object file" } th scope="col" { "ccache" }
                }
            }
            tbody {
                @for module in &slowest {
                    tr {
                        th scope="row" {
                            code { (text::line(&module.name, 80)) }
                            @if !module.compiled { " " small { "bytecode" } }
                        }
                        td class="wide-bar" {
                            svg width="100%" height="10" aria-hidden="true" {
                                rect class="p1" width=(share(module.seconds() / longest)) height="10" {}
                                rect class="p3" width=(share((module.generation + module.compilation) / longest)) height="10" {}
                            }
                        }
                        td class="num" { (seconds(rounded(module.seconds()))) }
                        td class="num" { (seconds(rounded(module.optimization))) }
                        td class="num" { (seconds(rounded(module.generation))) }
                        td class="num" { (seconds(rounded(module.compilation))) }
                        td class="num" { (bytes(module.object)) }
                        td { (text::line(module.ccache.as_deref().unwrap_or("-"), 20)) }
                    }
                }
            }
            tfoot {
                tr {
                    th scope="row" { "all " (text::counted(count, "module")) }
                    td class="wide-bar" {}
                    td class="num" { (seconds(rounded(all))) }
                    td class="num" { (seconds(rounded(modules.report.modules.iter().map(|module| module.optimization).sum()))) }
                    td class="num" { (seconds(rounded(modules.report.modules.iter().map(|module| module.generation).sum()))) }
                    td class="num" { (seconds(rounded(modules.report.modules.iter().map(|module| module.compilation).sum()))) }
                    td class="num" { (bytes(modules.report.modules.iter().map(|module| module.object).sum())) }
                    td { @if modules.report.linking > 0.0 { "linking " (seconds(rounded(modules.report.linking))) } }
                }
            }
        }
    }
}

/// Sums to what Nuitka writes: a tenth of a millisecond.
fn rounded(seconds: f64) -> f64 {
    (seconds * 10_000.0).round() / 10_000.0
}
