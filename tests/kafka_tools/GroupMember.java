import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A member of a group until the file STOP is there: bootstrap, topic, group, strategy, STOP. */
public class GroupMember {
    public static void main(String[] args) throws Exception {
        Map<String, Object> config = Map.of(
            "bootstrap.servers", args[0],
            "group.id", args[2],
            "partition.assignment.strategy", args[3],
            "auto.offset.reset", "earliest",
            "enable.auto.commit", "false",
            "heartbeat.interval.ms", "200");
        Path stop = Path.of(args[4]);
        try (var consumer = new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(args[1]), new ConsumerRebalanceListener() {
                public void onPartitionsRevoked(Collection<TopicPartition> places) {
                    for (var place : places) System.out.println("revoked " + place.partition());
                }

                public void onPartitionsAssigned(Collection<TopicPartition> places) {
                    for (var place : places) System.out.println("assigned " + place.partition());
                    try {
                        Files.writeString(Path.of(args[4] + ".owned"), "" + consumer.assignment().size());
                    } catch (java.io.IOException error) {
                        throw new RuntimeException(error);
                    }
                }
            });
            while (!Files.exists(stop)) {
                for (var record : consumer.poll(Duration.ofMillis(100)))
                    System.out.println("record " + record.partition() + " " + record.offset());
                long at = 0;
                for (var place : consumer.assignment()) at += consumer.position(place);
                Files.writeString(Path.of(args[4] + ".at"), "" + at);
                try {
                    consumer.commitSync();
                } catch (RebalanceInProgressException later) {
                    // the next poll ends the rebalance, and what it read so far stays to be committed
                }
            }
        }
    }
}
