//! The actions on namespaces.

use model::NamespaceRecord;
use scf::action::{CreateNamespace, DeleteNamespace, ListNamespaces, UpdateNamespace};
use scf::types as t;
use scf::{Action, Error};

use super::error;
use super::page::{descending, page};
use super::{Caller, Gateway, Serve};

impl Serve for CreateNamespace {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::CreateNamespaceRequest,
    ) -> Result<t::Empty, Error> {
        let (name, description) = (&request.namespace, request.description.as_deref());
        let created = gateway
            .control
            .create_namespace(caller.account, name, description);
        created.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for UpdateNamespace {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::UpdateNamespaceRequest,
    ) -> Result<t::Empty, Error> {
        let (name, description) = (&request.namespace, &request.description);
        let updated = gateway
            .control
            .update_namespace(caller.account, name, description);
        updated.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for DeleteNamespace {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::DeleteNamespaceRequest,
    ) -> Result<t::Empty, Error> {
        let control = &gateway.control;
        let deleted = control.delete_namespace(caller.account, &request.namespace);
        deleted.await.map_err(error::control)?;
        Ok(t::Empty {})
    }
}

impl Serve for ListNamespaces {
    async fn serve(
        gateway: &Gateway,
        caller: Caller<'_>,
        request: t::ListNamespacesRequest,
    ) -> Result<t::ListNamespacesResponse, Error> {
        let (offset, limit) = page(request.offset, request.limit)?;
        let mut records = gateway.control.namespaces(caller.account);
        records.retain(|record| gateway.lists_namespace(caller, Self::NAME, record.name.as_str()));
        for key in request.search_key.iter().flatten() {
            records.retain(|record| match key.key.as_str() {
                "Namespace" | "Name" => record.name.as_str().contains(&key.value),
                "Description" => record.description.contains(&key.value),
                _ => false,
            });
        }
        sort(
            &mut records,
            request.orderby.as_deref(),
            request.order.as_deref(),
        )?;
        let total_count = records.len() as i64;
        let namespaces = records.iter().skip(offset).take(limit).map(show).collect();
        Ok(t::ListNamespacesResponse {
            namespaces,
            total_count,
        })
    }
}

fn sort(
    records: &mut [NamespaceRecord],
    by: Option<&str>,
    order: Option<&str>,
) -> Result<(), Error> {
    let name = |record: &NamespaceRecord| record.name.clone();
    match by {
        None | Some("" | "Namespace" | "Name") => records.sort_by_key(name),
        Some("AddTime") => records.sort_by_key(|record| (record.added, name(record))),
        Some("ModTime") => records.sort_by_key(|record| (record.modified, name(record))),
        Some(other) => {
            let message = format!("{other:?} is not allowed; Name, AddTime and ModTime are");
            return Err(error::wire_field("Orderby", message));
        }
    }
    // The default order is ascending for names and descending (newest first) for times.
    let by_name = matches!(by, None | Some("" | "Namespace" | "Name"));
    let unset = order.is_none_or(str::is_empty);
    if descending(order)? && !(by_name && unset) {
        records.reverse();
    }
    Ok(())
}

fn show(record: &NamespaceRecord) -> t::NamespaceInfo {
    let time = |ms| {
        if ms == 0 {
            String::new()
        } else {
            clock::format(ms)
        }
    };
    t::NamespaceInfo {
        mod_time: time(record.modified),
        add_time: time(record.added),
        description: record.description.clone(),
        name: record.name.to_string(),
        r#type: "default".into(),
    }
}
