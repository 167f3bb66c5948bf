// Package config reads configuration files: YAML, decoded strictly into structs, with every error found at once and
// shown as file:line:column with the spot and the nearest known key.
//
// Keys come from the struct tag `yaml:"name"`, with the options ",required" and ",inline". Durations are written with
// a unit. ${NAME} and ${NAME:-default} stand for environment variables within scalar values; $$ is a dollar sign. They
// are put in after the file was parsed: a value cannot add keys.
package config
