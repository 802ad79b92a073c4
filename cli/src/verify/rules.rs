//! Which events the agent left out, and what it replaced.

use logweir_proto::line::Rules;
use logweir_proto::line::rules::{ReadySet, Replacement, RuleTexts};

/// The agent's flags of the same names.
#[derive(Debug, clap::Args)]
pub(super) struct RuleArgs {
    /// Count only events in whose lines this is found, as the agent was told; may be repeated
    #[arg(long, value_name = "REGEX")]
    include_lines: Vec<String>,
    /// Don't count events in whose lines this is found; may be repeated
    #[arg(long, value_name = "REGEX")]
    exclude_lines: Vec<String>,
    /// What the agent replaced: email, card, bearer. It changes no count
    #[arg(long, value_name = "SET", value_delimiter = ',', value_parser = str::parse::<ReadySet>)]
    redact: Vec<ReadySet>,
    /// What the agent replaced besides. It changes no count
    #[arg(long, value_name = "REGEX=>TEXT", value_parser = str::parse::<Replacement>)]
    redact_regex: Vec<Replacement>,
}

impl RuleArgs {
    /// The rules.
    ///
    /// # Errors
    /// A sentence that names the flag and says what would be right.
    pub(super) fn rules(&self) -> Result<Rules, String> {
        Rules::new(RuleTexts {
            include: self.include_lines.clone(),
            exclude: self.exclude_lines.clone(),
            redact: self.redact.clone(),
            replace: self.redact_regex.clone(),
        })
    }
}
