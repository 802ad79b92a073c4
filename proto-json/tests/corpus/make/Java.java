// Writes what Java's loggers write, and beside each file the minute and level of each of its events.
//
//     j=/usr/share/java
//     TZ=UTC java -cp $j/log4j-api.jar:$j/log4j-core.jar:$j/logback-classic.jar:$j/logback-core.jar:$j/slf4j-api.jar Java.java DIRECTORY
//
// On Debian they come with default-jdk-headless, liblog4j2-java and liblogback-java.

import java.io.FileWriter;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.List;
import java.util.Map;
import java.util.logging.FileHandler;
import java.util.logging.SimpleFormatter;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.core.LoggerContext;
import org.apache.logging.log4j.core.appender.FileAppender;
import org.apache.logging.log4j.core.config.Configurator;
import org.apache.logging.log4j.core.config.DefaultConfiguration;
import org.apache.logging.log4j.core.layout.PatternLayout;

public class Java {
  /// The patterns of manuals and of programs that come with log4j.
  static final Map<String, String> LOG4J = Map.of(
      "log4j-iso", "%d{ISO8601} [%t] %-5p %c - %m%n",
      "log4j-kafka", "[%d] %p %m (%c)%n",
      "log4j-spark", "%d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n",
      "log4j-solr", "%d{yyyy-MM-dd HH:mm:ss.SSS} %-5p (%t) [   ] %c{1.} %m%n",
      "log4j-level-first", "%-5p [%d{yyyy-MM-dd HH:mm:ss,SSS}] [%t] %c{1} - %m%n",
      "log4j-elasticsearch", "[%d{ISO8601}][%-5p][%-25c{1.}] [node-1] %m%n");
  static final Map<String, String> LOGBACK = Map.of(
      "logback-default", "%d{HH:mm:ss.SSS} [%thread] %-5level %logger{36} - %msg%n",
      "logback-spring", "%d{yyyy-MM-dd HH:mm:ss.SSS} %5p 4242 --- [%15.15t] %-40.40logger{39} : %m%n",
      "logback-dropwizard", "%-5p [%d{ISO8601,UTC}] %c: %m%n%rEx");

  static Path out;

  static String minute() {
    return DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm'Z'").withZone(ZoneOffset.UTC).format(Instant.now());
  }

  interface Log {
    void at(String level, String message, Throwable thrown);
  }

  /// The same events for each: what they say is no level, and a trace belongs to its event.
  static void events(String name, Log log) throws IOException {
    try (FileWriter expected = new FileWriter(out.resolve(name + ".expected").toFile())) {
      for (String level : List.of("trace", "debug", "info", "warn", "error")) {
        log.at(level, "no error here: level=fatal", null);
        expected.write(minute() + " " + level + "\n");
      }
      log.at("error", "it failed", failure());
      expected.write(minute() + " error\n");
      log.at("info", "of two\nlines, ERROR is only a word", null);
      expected.write(minute() + " info\n");
      log.at("info", "the end", null);
      expected.write(minute() + " info\n");
    }
  }

  static Throwable failure() {
    try {
      try {
        Integer.parseInt("seven");
        return null;
      } catch (NumberFormatException error) {
        throw new IllegalStateException("cannot take it", error);
      }
    } catch (IllegalStateException error) {
      return error;
    }
  }

  static void log4j(String name, String pattern) throws IOException {
    LoggerContext context = Configurator.initialize(new DefaultConfiguration());
    PatternLayout layout = PatternLayout.newBuilder().withPattern(pattern).withConfiguration(context.getConfiguration()).build();
    FileAppender appender = FileAppender.newBuilder().setName(name).setLayout(layout).withFileName(out.resolve(name + ".log").toString())
        .withAppend(false).build();
    appender.start();
    var root = context.getRootLogger();
    root.getAppenders().values().forEach(root::removeAppender);
    root.addAppender(appender);
    context.getConfiguration().getRootLogger().setLevel(Level.ALL);
    context.updateLoggers();
    var logger = context.getLogger("com.example.shop.Checkout");
    events(name, (level, message, thrown) -> logger.log(Level.valueOf(level), message, thrown));
    appender.stop();
  }

  static void logback(String name, String pattern) throws IOException {
    var context = new ch.qos.logback.classic.LoggerContext();
    var encoder = new ch.qos.logback.classic.encoder.PatternLayoutEncoder();
    encoder.setContext(context);
    encoder.setPattern(pattern);
    encoder.start();
    var appender = new ch.qos.logback.core.FileAppender<ch.qos.logback.classic.spi.ILoggingEvent>();
    appender.setContext(context);
    appender.setEncoder(encoder);
    appender.setAppend(false);
    appender.setFile(out.resolve(name + ".log").toString());
    appender.start();
    var logger = context.getLogger("com.example.shop.Checkout");
    logger.setLevel(ch.qos.logback.classic.Level.ALL);
    logger.addAppender(appender);
    events(name, (level, message, thrown) -> {
      switch (level) {
        case "trace" -> logger.trace(message, thrown);
        case "debug" -> logger.debug(message, thrown);
        case "info" -> logger.info(message, thrown);
        case "warn" -> logger.warn(message, thrown);
        default -> logger.error(message, thrown);
      }
    });
    context.stop();
  }

  /// java.util.logging's own form, of two lines.
  static void util(String name) throws IOException {
    var handler = new FileHandler(out.resolve(name + ".log").toString());
    handler.setFormatter(new SimpleFormatter());
    handler.setLevel(java.util.logging.Level.ALL);
    var logger = java.util.logging.Logger.getLogger("com.example.shop.Checkout");
    logger.setUseParentHandlers(false);
    logger.setLevel(java.util.logging.Level.ALL);
    logger.addHandler(handler);
    var levels = Map.of("trace", java.util.logging.Level.FINER, "debug", java.util.logging.Level.FINE, "info", java.util.logging.Level.INFO,
        "warn", java.util.logging.Level.WARNING, "error", java.util.logging.Level.SEVERE);
    events(name, (level, message, thrown) -> logger.log(levels.get(level), message, thrown));
    handler.close();
    Files.deleteIfExists(out.resolve(name + ".log.lck"));
  }

  public static void main(String[] arguments) throws IOException {
    out = Path.of(arguments[0]).toAbsolutePath();
    for (var entry : LOG4J.entrySet()) {
      log4j(entry.getKey(), entry.getValue());
    }
    for (var entry : LOGBACK.entrySet()) {
      logback(entry.getKey(), entry.getValue());
    }
    util("java-util-logging");
  }
}
