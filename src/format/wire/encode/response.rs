//! Answers.

use super::field::{
    cut, field_bytes, field_image_or_null, field_null, field_text, field_text_or_null, field_uint, put_host, put_hosts,
};
use super::{DATA_RESPONSE_HEAD_BYTES, DataResponse, ERROR, RESPONSE, begin_data_response, envelope};
use crate::format::cbor::{put_array, put_bool, put_map, put_text};
use crate::format::wire::message::{ChangeAnswer, PlanAnswer, Response, SubmitAnswer};
use crate::format::wire::{RequestType, cluster};
use crate::model::estimate::Estimate;
use crate::model::limits;

pub(super) fn encode_response(id: u64, response: &Response) -> Vec<u8> {
    let with_data = |kind, data: &[u8]| {
        let mut out = Vec::with_capacity(DATA_RESPONSE_HEAD_BYTES + data.len());
        begin_data_response(&mut out, kind, id, data.len());
        out.extend_from_slice(data);
        out
    };
    let other = |name: &str| {
        let mut out = Vec::with_capacity(256);
        envelope(&mut out, RESPONSE, name, Some(id));
        out
    };
    match response {
        Response::GetIndex { data: Some(data) } => with_data(DataResponse::GetIndex, data),
        Response::GetBlock { data: Some(data) } => with_data(DataResponse::GetBlock, data),
        Response::GetBlocks { data } => with_data(DataResponse::GetBlocks, data),
        Response::GetIndexPart { data, total } => with_data(DataResponse::GetIndexPart { total: *total }, data),
        Response::AppendDir(answer) => put_answer(other(RequestType::AppendDir.name()), answer),
        Response::ReplaceDir(answer) => put_answer(other(RequestType::ReplaceDir.name()), answer),
        Response::SubmitChange(answer) => put_submit_answer(other(RequestType::SubmitChange.name()), answer),
        Response::Plan(answer) => put_plan_answer(other(RequestType::Plan.name()), answer),
        Response::Node(response) => {
            let mut out = other(response.request_type().name());
            cluster::put_response(&mut out, response);
            out
        }
        Response::GetIndexAt { data, hosts } => {
            let mut out = other(RequestType::GetIndexAt.name());
            put_map(&mut out, 1 + usize::from(data.is_some()));
            if let Some(data) = data {
                field_bytes(&mut out, "data", data);
            }
            put_hosts(&mut out, hosts);
            out
        }
        Response::GetIndex { data: None } | Response::GetBlock { data: None } => {
            encode_response(id, &Response::Error("not found".into()))
        }
        Response::Error(text) => {
            let mut out = other(ERROR);
            put_text(&mut out, cut(text, limits::TEXT_BYTES_MAX));
            out
        }
    }
}

fn put_answer(mut out: Vec<u8>, answer: &ChangeAnswer) -> Vec<u8> {
    put_map(&mut out, 3);
    put_text(&mut out, "accepted");
    put_bool(&mut out, answer.accepted);
    field_text_or_null(&mut out, "reject_reason", answer.reject_reason.as_deref());
    put_hosts(&mut out, &answer.hosts);
    out
}

fn put_submit_answer(mut out: Vec<u8>, answer: &SubmitAnswer) -> Vec<u8> {
    put_map(&mut out, SUBMIT_ANSWER_FIELDS);
    put_submit_fields(&mut out, answer);
    out
}

fn put_plan_answer(mut out: Vec<u8>, plan: &PlanAnswer) -> Vec<u8> {
    put_map(&mut out, SUBMIT_ANSWER_FIELDS + 2);
    put_submit_fields(&mut out, &plan.answer);
    match &plan.estimate {
        Some(estimate) => {
            let fields = estimate_fields(estimate);
            put_text(&mut out, "estimate");
            put_map(&mut out, fields.len() + 1);
            for (name, value) in fields {
                field_uint(&mut out, name, value);
            }
            match estimate.inodes_free {
                Some(free) => field_uint(&mut out, "inodes_free", free),
                None => field_null(&mut out, "inodes_free"),
            }
        }
        None => field_null(&mut out, "estimate"),
    }
    field_text_or_null(&mut out, "problem", plan.problem.as_deref());
    out
}

fn estimate_fields(estimate: &Estimate) -> [(&'static str, u64); 9] {
    [
        ("files", estimate.files),
        ("bytes", estimate.bytes),
        ("files_linked", estimate.files_linked),
        ("bytes_linked", estimate.bytes_linked),
        ("bytes_copied", estimate.bytes_copied),
        ("bytes_fetched", estimate.bytes_fetched),
        ("bytes_needed", estimate.bytes_needed),
        ("bytes_free", estimate.bytes_free),
        ("inodes_needed", estimate.inodes_needed),
    ]
}

const SUBMIT_ANSWER_FIELDS: usize = 11;

fn put_submit_fields(out: &mut Vec<u8>, answer: &SubmitAnswer) {
    field_text(out, "verdict", answer.verdict.name());
    field_text_or_null(out, "reject_reason", answer.reject_reason.as_deref());
    field_text_or_null(out, "detail", answer.detail.as_deref());
    put_text(out, "accepted_keys");
    put_array(out, answer.accepted_keys.len().min(limits::ACCEPTED_KEYS_MAX));
    for name in answer.accepted_keys.iter().take(limits::ACCEPTED_KEYS_MAX) {
        put_text(out, cut(name, limits::TEXT_BYTES_MAX));
    }
    field_image_or_null(out, "current", answer.current.as_ref());
    match answer.stamp {
        Some(stamp) => field_uint(out, "stamp", stamp.0),
        None => field_null(out, "stamp"),
    }
    put_text(out, "done");
    put_bool(out, answer.done);
    put_host(out, &answer.host);
    put_hosts(out, &answer.hosts);
    put_text(out, "addresses");
    put_array(out, answer.addresses.len().min(limits::HOSTS_MAX));
    for address in answer.addresses.iter().take(limits::HOSTS_MAX) {
        put_text(out, &address.to_string());
    }
}
