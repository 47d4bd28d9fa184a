//! Commands of emulated platforms with native programs: what they wait for, what they see, and what happens if it fails.

mod common;

use common::{AMD64, ARM64, Bed, Graph, copy};
use kiln_docker::labels;
use kiln_graph::{Platform, Twin, VertexId};
use kiln_solver::{BuildEvent, Cancel, SolveError, Way};
use kiln_testkit::{Files, Outcome, Step};

/// As [`common::script`], for commands that run behind kiln's program: with a twin the line starts with `twin`.
fn script(step: &mut Step<'_>) -> Outcome {
    let argv = step.argv().to_vec();
    match argv.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [kiln_twin::PROGRAM, "fill", ..] => {
            let from = step.files.text("/programs").unwrap_or_default();
            if from == "none" {
                let mut outcome = Outcome::default().out("kiln-twin: fill: no loader\n");
                outcome.exit.code = 1;
                return outcome;
            }
            let target = argv[2].clone();
            step.volume(&target).expect("a volume to fill").write("/programs", from);
            Outcome::default()
        }
        [kiln_twin::PROGRAM, "enter", line] if line.starts_with("natively ") => {
            let programs = step.volume(kiln_twin::NATIVE).expect("native programs").text("/programs");
            step.files.write("/out", format!("made with {}", programs.unwrap_or_default()));
            Outcome::default()
        }
        [kiln_twin::PROGRAM, "enter", line] if line.starts_with("breaks ") => {
            let mut outcome = Outcome::default();
            for said in line.split_whitespace().skip(1) {
                outcome = outcome.out(&format!("kiln: {}\n", said.replace('_', " ")));
            }
            outcome.exit.code = 1;
            outcome
        }
        [line] if line.starts_with("natively ") || line.starts_with("breaks ") => {
            step.files.write("/out", "emulated");
            Outcome::default()
        }
        _ => common::script(step),
    }
}

fn bed() -> Bed {
    let bed = Bed::new();
    bed.engine.on_run(script);
    bed
}

/// A stage for both platforms whose second command is `line`; only arm64's result is wanted.
fn staged(bed: &Bed, tools: &str, line: &str) -> (Graph, VertexId) {
    let mut graph = Graph::default();
    let base = bed.image(&mut graph, "base", ARM64, Files::new());
    let stage = graph.run(base, ARM64, tools);
    let step = graph.run(stage, ARM64, line);
    let scratch = graph.scratch();
    let root = graph.copy_as(scratch, step, copy(&["out"], "/program"));
    graph.target("export", ARM64, root);
    // Lowered for the daemon's platform afterwards.
    let native = bed.image(&mut graph, "base", AMD64, Files::new());
    let first = graph.run(native, AMD64, "say first");
    let helper = graph.run(first, AMD64, tools);
    graph.graph.set_twin(step, Twin { root: helper, cross: None });
    (graph, step)
}

fn notices(built: &common::Built) -> Vec<(Option<Platform>, String)> {
    let notice = |event: &BuildEvent| match event {
        BuildEvent::Notice { platform, text } => Some((*platform, text.clone())),
        _ => None,
    };
    built.events.iter().filter_map(notice).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_the_programs_of_its_stage_on_the_own_platform() {
    let bed = bed();
    let (graph, step) = staged(&bed, "write /programs gcc", "natively compile");
    let built = bed.build(&graph).await;
    assert_eq!(bed.exported("program").as_deref(), Some("made with gcc"));
    let report = built.report(0);
    assert_eq!(report.way, Way::Twin);
    // Its own steps are counted, not those that only help.
    assert_eq!(report.ran, 3);
    let planned = built.events.iter().find_map(|event| match event {
        BuildEvent::Planned { targets, .. } => Some(targets[0].way),
        _ => None,
    });
    assert_eq!(planned, Some(Way::Twin));
    let way = built.events.iter().find_map(|event| match event {
        BuildEvent::StepStarted { vertex, way, .. } if *vertex == step => Some(*way),
        _ => None,
    });
    assert_eq!(way, Some(Way::Twin));
    // Helpers are shown with the platform that they help, also those whose ids come after it.
    for event in &built.events {
        if let BuildEvent::StepStarted { platforms, origin, .. } = event {
            assert_eq!(platforms, &[ARM64], "{}", origin.text);
        }
    }
    // The volume lives as long as its image.
    let volumes = bed.engine().volumes_with_label(labels::TWIN, false).await.expect("a listing");
    assert_eq!(volumes.len(), 2, "the volume and its seal: {volumes:?}");
    let image = volumes[0].labels[labels::TWIN].clone();
    assert_eq!(kiln_docker::twin::sweep(bed.engine().as_ref()).await.expect("a sweep"), 0);
    bed.engine().remove_image(&image).await.expect("removable");
    assert_eq!(kiln_docker::twin::sweep(bed.engine().as_ref()).await.expect("a sweep"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_up_to_date_needs_no_native_stage() {
    let bed = bed();
    let (graph, _) = staged(&bed, "write /programs gcc", "natively compile");
    bed.build(&graph).await.report(0);
    let calls = bed.engine.calls().len();
    assert!(bed.build(&graph).await.report(0).up_to_date);
    let after: Vec<String> = bed.engine.calls().split_off(calls);
    assert!(!after.iter().any(|call| call.starts_with("start")), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_with_native_programs_runs_again_without() {
    let bed = bed();
    let (graph, _) = staged(&bed, "write /programs gcc", "breaks here");
    let built = bed.build(&graph).await;
    assert_eq!(bed.exported("program").as_deref(), Some("emulated"));
    assert_eq!(built.report(0).way, Way::Mixed);
    let said = notices(&built);
    assert!(
        said.iter().any(|(p, text)| *p == Some(ARM64) && text.contains("runs again under plain emulation")),
        "{said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_the_step_is_sure_of_is_not_tried_again() {
    let bed = bed();
    let (graph, _) = staged(&bed, "write /programs gcc", "breaks error:_no_such_module");
    let built = bed.build(&graph).await;
    let SolveError::Step { errors, certain, .. } = built.error(0) else { panic!() };
    assert_eq!((errors[0].as_str(), *certain), ("no_such_module".replace('_', " ").as_str(), true));

    let (graph, _) = staged(&bed, "write /programs gcc", "breaks doubt error:_Nuitka_failed");
    assert_eq!(bed.build(&graph).await.report(0).way, Way::Mixed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_stage_that_cannot_be_built_or_used_costs_only_time() {
    for tools in ["fail 1", "write /programs none"] {
        let bed = bed();
        let mut graph = Graph::default();
        let base = bed.image(&mut graph, "base", ARM64, Files::new());
        let native = bed.image(&mut graph, "base", AMD64, Files::new());
        let helper = graph.run(native, AMD64, tools);
        let step = graph.run(base, ARM64, "natively compile");
        let scratch = graph.scratch();
        let root = graph.copy(scratch, step, &["out"], "/program");
        graph.target("export", ARM64, root);
        graph.graph.set_twin(step, Twin { root: helper, cross: None });
        let built = bed.build(&graph).await;
        assert_eq!(bed.exported("program").as_deref(), Some("emulated"), "{tools}");
        assert_eq!(built.report(0).way, Way::Qemu);
        let said = notices(&built);
        assert!(said.iter().any(|(_, text)| text.contains("runs emulated")), "{tools}: {said:?}");

        // Where the user insists, it is an error.
        let outputs = vec![bed.files()];
        let mut request = bed.request(&graph, outputs);
        request.run.twin_required.insert(ARM64);
        std::fs::remove_dir_all(bed.path("dist")).expect("a folder");
        let built = bed.build_as(request, Cancel::new()).await;
        assert!(matches!(built.error(0), SolveError::Twin { platform, .. } if *platform == ARM64), "{tools}");
    }
}
