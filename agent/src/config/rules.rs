//! Which events are left out, and what is replaced in the others.

use clap::Args;
use logweir_proto::line::Rules;
use logweir_proto::line::rules::{ReadySet, Replacement, RuleTexts};

/// The flags.
#[derive(Debug, Clone, Args)]
pub(crate) struct RuleArgs {
    /// Keep only events in whose lines this is found, as they stand in the file; may be repeated, then one is enough. What is
    /// left out is counted in logweir_agent_filtered_events_total
    #[arg(long, value_name = "REGEX")]
    pub(crate) include_lines: Vec<String>,
    /// Leave events out in whose lines this is found, after --include-lines; may be repeated
    #[arg(long, value_name = "REGEX")]
    pub(crate) exclude_lines: Vec<String>,
    /// Replace what is found in messages and all other fields before anything is sent or kept: email, card (numbers of payment
    /// cards), bearer (Authorization: Bearer …, JSON Web Tokens, token=…); may be repeated
    #[arg(long, value_name = "SET", value_delimiter = ',', value_parser = str::parse::<ReadySet>)]
    pub(crate) redact: Vec<ReadySet>,
    /// Replace what this finds by a text, such as 'sid=[0-9a-f]+=>sid=***' (the text begins after the last =>); may be
    /// repeated. Replaced places are counted in logweir_agent_redactions_total
    #[arg(long, value_name = "REGEX=>TEXT", value_parser = str::parse::<Replacement>)]
    pub(crate) redact_regex: Vec<Replacement>,
}

impl RuleArgs {
    /// The rules.
    ///
    /// # Errors
    /// A sentence that names the flag and says what would be right.
    pub(crate) fn rules(&self) -> Result<Rules, String> {
        Rules::new(RuleTexts {
            include: self.include_lines.clone(),
            exclude: self.exclude_lines.clone(),
            redact: self.redact.clone(),
            replace: self.redact_regex.clone(),
        })
    }
}
