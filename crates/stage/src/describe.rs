//! `--describe`: a stage's ports, parameters and defaults as JSON, from the same definition as its flags.

use clap::{ArgAction, Args, Command};
use serde::{Deserialize, Serialize};

use crate::Stage;

/// What the runner must know of a stage before it starts it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Stage.
    pub stage: String,
    /// Version of its package.
    pub version: String,
    /// One sentence.
    pub about: String,
    /// Inputs.
    pub ports: Vec<Port>,
    /// Parameters.
    pub parameters: Vec<Parameter>,
    /// Whether it takes `--shard I/N` and `--join`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shards: bool,
    /// Accelerators that a call takes for itself.
    #[serde(default, skip_serializing_if = "is_none")]
    pub devices: u32,
}

fn is_none(devices: &u32) -> bool {
    *devices == 0
}

/// An input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Flag, without dashes.
    pub name: String,
    /// `model`, `file`, `name=file`, or names of tables joined by `|`.
    pub takes: String,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it may be given more than once.
    pub repeatable: bool,
    /// Meaning.
    pub help: String,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Flag, without dashes.
    pub name: String,
    /// Whether it takes no value.
    pub switch: bool,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it may be given more than once.
    pub repeatable: bool,
    /// Defaults, as typed.
    pub default: Vec<String>,
    /// Values it is limited to; empty where it is not.
    pub values: Vec<String>,
    /// Meaning.
    pub help: String,
}

/// Of stage `S`, version `version`.
pub(crate) fn describe<S: Stage>(version: &str) -> Description {
    let inputs = S::Inputs::augment_args(Command::new("inputs"));
    let params = S::Params::augment_args(Command::new("params"));
    Description {
        stage: S::NAME.to_string(),
        version: version.to_string(),
        about: S::ABOUT.to_string(),
        ports: inputs
            .get_arguments()
            .map(|arg| Port {
                name: long(arg),
                takes: arg
                    .get_value_names()
                    .and_then(|names| names.first())
                    .map_or_else(|| "file".to_string(), |name| name.to_string().to_lowercase()),
                required: arg.is_required_set(),
                repeatable: matches!(arg.get_action(), ArgAction::Append),
                help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            })
            .collect(),
        parameters: params
            .get_arguments()
            .map(|arg| Parameter {
                name: long(arg),
                switch: !arg.get_action().takes_values(),
                required: arg.is_required_set(),
                repeatable: matches!(arg.get_action(), ArgAction::Append),
                default: arg
                    .get_default_values()
                    .iter()
                    .map(|value| value.to_string_lossy().into_owned())
                    .collect(),
                values: if arg.get_action().takes_values() {
                    arg.get_possible_values().iter().map(|value| value.get_name().to_string()).collect()
                } else {
                    Vec::new()
                },
                help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
            })
            .collect(),
        shards: S::SHARDS,
        devices: S::DEVICES,
    }
}

fn long(arg: &clap::Arg) -> String {
    arg.get_long().unwrap_or_else(|| arg.get_id().as_str()).to_string()
}
