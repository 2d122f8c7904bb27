#!/bin/sh
# huma ignores the parameters of an embedded struct whose type is not exported, and says nothing.
#
# Expected: encoding/json and other packages take the exported fields of an embedded struct whether its type is exported
# or not, so huma should read query and path parameters of either, or refuse the operation when it is registered.
# Seen: of an unexported type they are in no document and never filled, path parameters too; the request is answered as
# if they had not been sent. The same fields under an exported type work.
#
# Output seen with huma 2.37.2 and Go 1.26.8:
#   exported: parameters [limit], limit 7
#   unexported: parameters [], limit 0
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >go.mod <<'MOD'
module finding

go 1.25

require github.com/danielgtaylor/huma/v2 v2.37.2
MOD
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

type Paging struct {
	Limit int `query:"limit"`
}

type paging struct {
	Limit int `query:"limit"`
}

type exported struct{ Paging }

type unexported struct{ paging }

func try[I any](name string, limit func(*I) int) {
	mux := http.NewServeMux()
	api := humago.New(mux, huma.DefaultConfig("finding", "1"))
	seen := 0
	huma.Register(api, huma.Operation{OperationID: "list", Method: http.MethodGet, Path: "/list"},
		func(_ context.Context, in *I) (*struct{}, error) {
			seen = limit(in)
			return nil, nil
		})
	mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/list?limit=7", nil))
	names := []string{}
	for _, p := range api.OpenAPI().Paths["/list"].Get.Parameters {
		names = append(names, p.Name)
	}
	fmt.Printf("%s: parameters %v, limit %d\n", name, names, seen)
}

func main() {
	try("exported", func(in *exported) int { return in.Limit })
	try("unexported", func(in *unexported) int { return in.Limit })
}
GO
go mod tidy >/dev/null 2>&1
go run . >seen
cat seen
cat >expected <<'OUT'
exported: parameters [limit], limit 7
unexported: parameters [], limit 0
OUT
diff expected seen
