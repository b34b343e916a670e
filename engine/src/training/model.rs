//! The model that a training leaves, on a table or on a stream.

use std::collections::BTreeMap;

use gradlake_udfs::{Member, Model, Target};

use super::columns::TrainingColumns;
use crate::clock::now_ms;
use crate::options::TrainOptions;
use crate::request::TrainRequest;

/// What a training knows beside the members that it trained.
pub(crate) struct ModelParts<'a> {
    pub request: &'a TrainRequest,
    pub columns: &'a TrainingColumns,
    /// Those that ran: a stream's differ from the request's.
    pub options: &'a TrainOptions,
    /// The model that it went on from.
    pub parent: Option<&'a Model>,
    pub rows: u64,
    pub skipped_rows: BTreeMap<String, u64>,
    pub started_ms: i64,
}

impl ModelParts<'_> {
    /// The model, which ends now and is not published yet.
    pub fn model(self, members: Vec<Member>) -> Model {
        let Self { request, columns, options, parent, rows, skipped_rows, started_ms } = self;
        let targets = columns.targets.iter().cloned();
        Model {
            name: request.name.clone(),
            version: 0,
            algorithm: request.algorithm,
            targets: targets.map(|(name, data_type)| Target { name, data_type }).collect(),
            inputs: columns.inputs.clone(),
            transform: columns.transform.clone(),
            weight: columns.roles.weight.clone(),
            partition_by: columns.partition_by.clone(),
            options: options.written_out(),
            statement: request.statement.clone(),
            parent: parent.map(|parent| (parent.name.clone(), parent.version)),
            seed: options.seed,
            rows,
            skipped_rows,
            started_ms,
            finished_ms: now_ms(),
            members,
        }
    }
}
