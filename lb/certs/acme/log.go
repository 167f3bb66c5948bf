package acme

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapFor has a zap.Logger, which is what certmagic writes to, write to log.
func zapFor(log *slog.Logger) *zap.Logger { return zap.New(core{log}) }

// core is a zapcore.Core.
type core struct{ log *slog.Logger }

func levelOf(l zapcore.Level) slog.Level {
	switch {
	case l >= zapcore.ErrorLevel:
		return slog.LevelError
	case l == zapcore.WarnLevel:
		return slog.LevelWarn
	case l == zapcore.InfoLevel:
		return slog.LevelInfo
	}
	return slog.LevelDebug
}

func (c core) Enabled(l zapcore.Level) bool { return c.log.Enabled(context.Background(), levelOf(l)) }

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log.With(attributes(fields)...)}
}

func (c core) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	c.log.Log(context.Background(), levelOf(e.Level), "acme: "+e.Message, attributes(fields)...)
	return nil
}

func (core) Sync() error { return nil }

func attributes(fields []zapcore.Field) (all []any) {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	for _, k := range slices.Sorted(maps.Keys(m.Fields)) {
		all = append(all, k, m.Fields[k])
	}
	return all
}
