//! Everything at once: what the text shows, and what lowering every stage shows.

use kiln_graph::{BuildGraph, Platform};

use super::{CheckConfig, Rule, Warning};
use crate::Error;
use crate::ast::Dockerfile;
use crate::lower::{BaseImage, Options, ResolvedImage, ResolvedImages};

/// What a check of a whole file found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// In the order of the file, each once.
    pub warnings: Vec<Warning>,
    /// The first mistake that would fail a build, whatever its target.
    pub error: Option<Error>,
    /// How the file wants to be checked.
    pub config: CheckConfig,
    /// Base images whose configuration was not known, and taken to be empty.
    pub assumed: Vec<BaseImage>,
}

impl Checked {
    /// Whether knowing the base images could take a warning back: an image may set variables, and a shell.
    pub fn is_uncertain(&self) -> bool {
        let depends = |rule| matches!(rule, Rule::UndefinedVar | Rule::JsonArgsRecommended);
        !self.assumed.is_empty() && self.warnings.iter().any(|warning| depends(warning.rule))
    }
}

impl Dockerfile {
    /// Checks the text and all stages, also those that no target needs. Images that are not among `images` are taken to
    /// set nothing.
    pub fn check_all(&self, options: &Options, platform: Platform, images: &ResolvedImages) -> Checked {
        let config = self.effective_check_config(options);
        let mut warnings = super::text::find(self);
        let mut error: Option<Error> = None;
        let (mut known, mut assumed) = (images.clone(), Vec::new());
        for index in 0..self.stages.len() {
            let target = Some(index.to_string());
            match self.check_target(options, target.as_deref(), platform, &mut known, &mut assumed) {
                Ok(found) => warnings.extend(found),
                Err(failed) => {
                    error.get_or_insert(failed);
                }
            }
        }
        // A build argument that nothing declares is no mistake of the file.
        warnings.retain(|warning| warning.rule != Rule::UndeclaredBuildArg && config.wants(warning.rule));
        warnings.sort_by(|a, b| (a.span, a.rule, &a.message).cmp(&(b.span, b.rule, &b.message)));
        warnings.dedup();
        Checked { warnings, error, config, assumed }
    }

    fn check_target(
        &self,
        options: &Options,
        target: Option<&str>,
        platform: Platform,
        known: &mut ResolvedImages,
        assumed: &mut Vec<BaseImage>,
    ) -> Result<Vec<Warning>, Error> {
        loop {
            let missing = self.missing_images(options, target, platform, known)?;
            if missing.is_empty() {
                break;
            }
            for image in missing {
                let nothing =
                    ResolvedImage { id: "unknown".into(), config: kiln_graph::ImageConfig::default(), digest: None };
                known.insert(image.clone(), nothing);
                assumed.push(image);
            }
        }
        let mut warnings = Vec::new();
        let mut graph = BuildGraph::new();
        self.lower_noting(options, target, platform, known, &mut graph, &mut warnings).map(|_| warnings)
    }
}
