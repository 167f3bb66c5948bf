package tune

import (
	"html/template"
	"io"
	"strings"
)

// WriteHTML writes the audit as a page that needs nothing else.
func (a *Audit) WriteHTML(w io.Writer) error {
	return auditPage.Execute(w, struct {
		*Audit
		Blind []string
	}{a, grouped(a.Unseen)})
}

var auditPage = template.Must(template.New("audit").Funcs(template.FuncMap{
	"join":       func(all []string) string { return strings.Join(all, "; ") },
	"title":      Finding.title,
	"unit":       withUnit,
	"assignment": assignment,
	"class": func(weight int) string {
		switch {
		case weight >= 8:
			return "heavy"
		case weight >= 5:
			return "middle"
		}
		return "light"
	},
}).Parse(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sluice tune audit: {{.Host.Name}}</title>
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1d2430; --dim: #5b6675; --line: #dfe3e8; --heavy: #b3261e; --middle: #a15c00; --light: #3d6b8f; --code: #f3f5f7 }
@media (prefers-color-scheme: dark) { :root { --back: #14181d; --text: #e3e7ec; --dim: #96a1af; --line: #2c333c; --heavy: #ff8a80; --middle: #ffc26b; --light: #8cc1e8; --code: #1e242b } }
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.4rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p.host { color: var(--dim); margin: .2rem 0 }
details { border-top: 1px solid var(--line); padding: .45rem 0 }
summary { cursor: pointer; display: grid; grid-template-columns: 2.2rem minmax(14rem, 1.2fr) 1fr 1fr; gap: .8rem; align-items: baseline; list-style: none; overflow-wrap: anywhere }
summary::-webkit-details-marker { display: none }
summary b { font-weight: 600 } summary span { overflow-wrap: anywhere }
.weight { font-weight: 700; text-align: right } .heavy { color: var(--heavy) } .middle { color: var(--middle) } .light { color: var(--light) }
dl { display: grid; grid-template-columns: 5rem 1fr; gap: .2rem .8rem; margin: .6rem 0 .6rem 3rem } dt { color: var(--dim) } dd { margin: 0; overflow-wrap: anywhere }
code { background: var(--code); border-radius: 3px; padding: .1rem .3rem; font-size: .9em } li { overflow-wrap: anywhere; color: var(--dim) }
@media (max-width: 40rem) { summary { grid-template-columns: 2rem 1fr } summary span:nth-child(n+3) { grid-column: 2 } dl { margin-left: 0 } }
</style>
<h1>{{len .Findings}} finding{{if ne (len .Findings) 1}}s{{end}} on {{.Host.Name}}</h1>
<p class="host">{{.Host}}</p>
<p class="host">edge: {{.Edge}}</p>
<p class="host">{{.Good}} good, {{.Moot}} do not matter here, {{len .Unseen}} cannot be seen</p>
{{if .Findings}}<h2>Findings, by weight</h2>
{{range .Findings}}<details><summary><span class="weight {{class .Weight}}">{{.Weight}}</span><b>{{title .}}</b><span>{{.Set}}</span><span>{{unit .Wanted .Unit}}</span></summary>
<dl><dt>sets</dt><dd>{{.Sets}}</dd><dt>why</dt><dd>{{.Why}}</dd><dt>cost</dt><dd>{{.Cost}}</dd><dt>sure</dt><dd>{{.Sure}}: {{join .Source}}</dd>
{{- if .Fix}}<dt>fix</dt><dd>{{range .Fix}}<code>{{assignment .}}</code> {{end}}</dd>{{end}}
{{- if .Do}}<dt>do</dt><dd>{{.Do}}</dd>{{end}}{{if .Note}}<dt>but</dt><dd>{{.Note}}</dd>{{end}}</dl></details>
{{end}}{{end}}{{if .Blind}}<h2>Cannot be seen from here</h2>
<ul>{{range .Blind}}<li>{{.}}</li>{{end}}</ul>
{{end}}</html>
`))
