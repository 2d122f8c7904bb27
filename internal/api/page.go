package api

import (
	_ "embed"
	"html/template"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed page.html
var pageText string

// response documents an answer that is one of some types.
func (s *Server) response(description string, bodies ...any) *huma.Response {
	registry := s.api.OpenAPI().Components.Schemas
	var schemas []*huma.Schema
	for _, body := range bodies {
		schemas = append(schemas, registry.Schema(reflect.TypeOf(body), true, ""))
	}
	schema := schemas[0]
	if len(schemas) > 1 {
		schema = &huma.Schema{AnyOf: schemas}
	}
	content := map[string]*huma.MediaType{"application/json": {Schema: schema}}
	return &huma.Response{Description: description, Content: content}
}

// documentUpload documents the body of an upload, which huma does not read.
func (s *Server) documentUpload(op huma.Operation) {
	row := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[Invitation](), true, "")
	one, most := 1, 200_000
	s.api.OpenAPI().Paths[op.Path].Post.RequestBody = &huma.RequestBody{
		Required: true,
		Content: map[string]*huma.MediaType{
			typeJSON:     {Schema: &huma.Schema{Type: huma.TypeArray, Items: row, MinItems: &one, MaxItems: &most}},
			typeCSV:      {Schema: &huma.Schema{Type: huma.TypeString}},
			typeWorkbook: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}},
		},
	}
}

// pages adds the document, a page to read it, and what is told of any other path.
func (s *Server) pages() {
	doc := s.api.OpenAPI()
	for _, name := range []string{"ErrorModel", "ErrorDetail"} {
		delete(doc.Components.Schemas.Map(), name) // of huma, which we do not use
	}
	written, err := doc.MarshalJSON()
	if err != nil {
		panic(err) // the operations are constants
	}
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(written)
	})
	page := template.Must(template.New("page").Parse(pageText))
	s.mux.HandleFunc("GET /docs", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		_ = page.Execute(w, pageOf(doc))
	})
	s.mux.Handle("GET /{$}", http.RedirectHandler("/docs", http.StatusFound))
	s.mux.HandleFunc("/", s.unknown)
}

// unknown answers a request that no operation is for.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		other := *r
		other.Method = method
		if pattern := s.route(&other); pattern != "/" && method != r.Method {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		refuse(w, r, problem(http.StatusMethodNotAllowed, noMethod, "this takes %s", strings.Join(allowed, ", ")))
		return
	}
	refuse(w, r, problem(http.StatusNotFound, notFound, "there is nothing of this path: /docs shows what there is"))
}

// chapter is an operation as the page shows it.
type chapter struct {
	Method, Path, ID, Summary, Description string
	Parameters                             []row
	Bodies, Answers                        []row
}

// row is a name and what it means.
type row struct{ Name, Kind, Text string }

// pageOf gives what the page shows of a document.
func pageOf(doc *huma.OpenAPI) any {
	var chapters []chapter
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		item := doc.Paths[path]
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Delete} {
			if op != nil {
				chapters = append(chapters, chapterOf(op))
			}
		}
	}
	schemas := map[string][]row{}
	for name, schema := range doc.Components.Schemas.Map() {
		for _, field := range slices.Sorted(maps.Keys(schema.Properties)) {
			s := schema.Properties[field]
			schemas[name] = append(schemas[name], row{field, kindOf(s), s.Description})
		}
	}
	return map[string]any{
		"Version": doc.Info.Version, "About": doc.Info.Description, "Chapters": chapters, "Schemas": schemas,
	}
}

func chapterOf(op *huma.Operation) chapter {
	c := chapter{Method: op.Method, Path: op.Path, ID: op.OperationID, Summary: op.Summary, Description: op.Description}
	for _, p := range op.Parameters {
		c.Parameters = append(c.Parameters, row{p.Name, p.In + ", " + kindOf(p.Schema), p.Description})
	}
	if op.RequestBody != nil {
		for _, form := range slices.Sorted(maps.Keys(op.RequestBody.Content)) {
			c.Bodies = append(c.Bodies, row{form, kindOf(op.RequestBody.Content[form].Schema), ""})
		}
	}
	for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
		answer := op.Responses[status]
		kind := ""
		for _, form := range slices.Sorted(maps.Keys(answer.Content)) {
			kind = kindOf(answer.Content[form].Schema)
		}
		c.Answers = append(c.Answers, row{status, kind, answer.Description})
	}
	return c
}

// kindOf says in a few words what a schema is of.
func kindOf(s *huma.Schema) string {
	if s == nil {
		return ""
	}
	var parts []string
	for _, one := range s.AnyOf {
		parts = append(parts, kindOf(one))
	}
	switch {
	case s.Ref != "":
		return s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	case len(parts) > 0:
		return strings.Join(parts, " or ")
	case s.Type == huma.TypeArray:
		return "list of " + kindOf(s.Items)
	case s.Format != "":
		return s.Format
	}
	return s.Type
}
