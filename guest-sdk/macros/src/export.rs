//! The wasm exports of a module: a place for its one instance, and the export macros of the interfaces it offers.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

/// Which optional interfaces a module offers beside the batch lane.
#[derive(Clone, Copy, Default)]
pub(crate) struct Offers {
    pub(crate) ticks: bool,
    pub(crate) finish: bool,
    pub(crate) state: bool,
}

pub(crate) fn exports(filter: &TokenStream, offers: Offers) -> TokenStream {
    let offered = [("batch", true), ("ticks", offers.ticks), ("finish", offers.finish), ("state", offers.state)];
    let exports = offered.iter().filter(|(_, offered)| *offered).map(|(name, _)| {
        let module = format_ident!("{name}");
        let export = format_ident!("export_{name}");
        quote! {
            ::tailmill_filter::bindings::#module::#export!(
                __TailmillModule with_types_in ::tailmill_filter::bindings::#module
            );
        }
    });
    quote! {
        // Natively only tests call a filter: without them it would be dead code, and each build would say so.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            #[allow(dead_code)]
            fn is_used() {
                let _ = <#filter as ::tailmill_filter::Filter>::start;
            }
        };

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, clippy::all, unused_qualifications)]
        const _: () = {
            struct __TailmillModule;

            ::std::thread_local! {
                static INSTANCE: ::std::cell::RefCell<::std::option::Option<::tailmill_filter::Runner<#filter>>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            impl ::tailmill_filter::bindings::Slot for __TailmillModule {
                type Filter = #filter;
                fn with<R>(
                    call: impl ::std::ops::FnOnce(&mut ::std::option::Option<::tailmill_filter::Runner<#filter>>) -> R,
                ) -> R {
                    INSTANCE.with_borrow_mut(call)
                }
            }

            #(#exports)*
        };
    }
}
